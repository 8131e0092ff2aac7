package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// envoyVersion finds the minor version: Envoy has been at 1 ever since.
var envoyVersion = regexp.MustCompile(`/1\.([0-9]+)\.[0-9]`)

// EnvoyMinor asks an Envoy for its minor version, which is 40 for 1.40.0.
func EnvoyMinor(ctx context.Context, binary string) (int, error) {
	out, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("envoy --version: %w", err)
	}
	m := envoyVersion.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("envoy --version says %q", out)
	}
	return strconv.Atoi(string(m[1]))
}

// fit takes out of a bootstrap what an older Envoy, one that the environment
// names, does not know. The pinned one gets every byte as it is.
func fit(ctx context.Context, binary string, bootstrap []byte) ([]byte, error) {
	if os.Getenv("ENVOY") == "" {
		return bootstrap, nil
	}
	minor, err := EnvoyMinor(ctx, binary)
	if err != nil || minor >= 37 {
		return bootstrap, err
	}
	var v any
	if err := yaml.Unmarshal(bootstrap, &v); err != nil {
		return nil, err
	}
	drop(v, "custom_tags") // with a format as their value came with 1.37
	return yaml.Marshal(v)
}

// drop deletes a key wherever it stands.
func drop(v any, key string) {
	switch v := v.(type) {
	case map[string]any:
		delete(v, key)
		for _, inner := range v {
			drop(inner, key)
		}
	case []any:
		for _, inner := range v {
			drop(inner, key)
		}
	}
}
