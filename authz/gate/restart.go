package gate

import (
	"reflect"

	"github.com/sallyport-authz/sallyport/authz/config"
)

// restart returns the sections that are read at the start only and differ.
func restart(before, after *config.Config) []string {
	var sections []string
	if !reflect.DeepEqual(before.Server, after.Server) {
		sections = append(sections, "server")
	}
	if !reflect.DeepEqual(before.Telemetry, after.Telemetry) {
		sections = append(sections, "telemetry")
	}
	return sections
}
