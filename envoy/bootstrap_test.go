package envoy_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/sallyport-authz/sallyport/envoy"
)

// get walks into what YAML decodes to: a string is a key, a number an index.
func get(t *testing.T, v any, keys ...any) any {
	t.Helper()
	for _, key := range keys {
		switch k := key.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok || m[k] == nil {
				t.Fatalf("nothing at %v of %v", k, keys)
			}
			v = m[k]
		case int:
			l, ok := v.([]any)
			if !ok || len(l) <= k {
				t.Fatalf("nothing at %v of %v", k, keys)
			}
			v = l[k]
		}
	}
	return v
}

func decode(t *testing.T, b []byte) map[string]any {
	t.Helper()
	var v map[string]any
	if err := yaml.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

var hcm = []any{"static_resources", "listeners", 0, "filter_chains", 0, "filters", 0, "typed_config"}

// What makes the file safe. Envoy's default is another value for most.
func TestSafeSettings(t *testing.T) {
	file, err := os.ReadFile("envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	manager := get(t, decode(t, file), hcm...)
	filter := get(t, manager, "http_filters", 0, "typed_config")
	for _, c := range []struct {
		in   any
		want any
		at   []any
	}{
		{manager, true, []any{"normalize_path"}},
		{manager, true, []any{"merge_slashes"}},
		{manager, "REJECT_REQUEST", []any{"path_with_escaped_slashes_action"}},
		{manager, true, []any{"use_remote_address"}},
		{manager, true, []any{"generate_request_id"}},
		{manager, "REJECT_REQUEST", []any{"common_http_protocol_options", "headers_with_underscores_action"}},
		{filter, false, []any{"failure_mode_allow"}},
		{filter, "ServiceUnavailable", []any{"status_on_error", "code"}},
		{filter, "1s", []any{"grpc_service", "timeout"}},
		{filter, true, []any{"encode_raw_headers"}},
		{filter, true, []any{"validate_mutations"}},
		{filter, true, []any{"decoder_header_mutation_rules", "disallow_system"}},
		{filter, true, []any{"decoder_header_mutation_rules", "disallow_is_error"}},
		{filter, false, []any{"clear_route_cache"}},
	} {
		if got := get(t, c.in, c.at...); got != c.want {
			t.Errorf("%v is %v, want %v", c.at, got, c.want)
		}
	}
}

// The headers that the demo's world owns are taken from clients by Envoy too,
// which is what protects a route where ext_authz is off.
func TestOwnedHeadersAreStripped(t *testing.T) {
	file, err := os.ReadFile("envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	world, err := os.ReadFile("../cmd/demo/world/sallyport.yaml")
	if err != nil {
		t.Fatal(err)
	}
	stripped := map[any]bool{}
	mutations := get(t, decode(t, file), append(hcm, "early_header_mutation_extensions", 0, "typed_config", "mutations")...)
	for _, m := range mutations.([]any) {
		stripped[m.(map[string]any)["remove"]] = true
	}
	owned := 0
	for _, r := range get(t, decode(t, world), "routes").([]any) {
		route := r.(map[string]any)
		if route["onAllow"] == nil {
			continue
		}
		for name := range get(t, route, "onAllow", "requestHeaders", "set").(map[string]any) {
			owned++
			if !stripped[name] {
				t.Errorf("route %v owns %s, and envoy.yaml lets a client's pass", route["name"], name)
			}
		}
	}
	if owned == 0 {
		t.Error("the demo's world owns no header")
	}
}

// Nothing but addresses differs between the file and what the demo runs.
func TestBootstrapReplacesAddressesOnly(t *testing.T) {
	file, err := os.ReadFile("envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	out, err := envoy.Bootstrap(envoy.Addresses{
		Listener: "127.0.0.1:1",
		Admin:    "127.0.0.1:2",
		Clusters: map[string][]string{
			"authz": {"127.0.0.1:3", "127.0.0.2:4"}, "upstream": {"127.0.0.1:5"}, "otel": {"127.0.0.1:6"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	cmp.Equal(decode(t, file), decode(t, out), cmp.Reporter(&reporter{found: &got}))
	want := []string{
		"admin.address.socket_address.port_value: 9901 to 2",
		"static_resources.listeners.0.address.socket_address.port_value: 10000 to 1",
		"static_resources.clusters.0.load_assignment.endpoints.0.lb_endpoints.0.endpoint.address.socket_address.port_value: 9191 to 3",
		"static_resources.clusters.0.load_assignment.endpoints.0.lb_endpoints.1: added",
		"static_resources.clusters.1.load_assignment.endpoints.0.lb_endpoints.0.endpoint.address.socket_address.port_value: 8080 to 5",
		"static_resources.clusters.2.load_assignment.endpoints.0.lb_endpoints.0.endpoint.address.socket_address.port_value: 4317 to 6",
	}
	less := func(a, b string) bool { return a < b }
	if d := cmp.Diff(want, got, sorted(less)); d != "" {
		t.Errorf("differences (-want +got):\n%s", d)
	}
	second := get(t, decode(t, out), "static_resources", "clusters", 0, "load_assignment", "endpoints", 0, "lb_endpoints", 1,
		"endpoint", "address", "socket_address")
	if d := cmp.Diff(map[string]any{"address": "127.0.0.2", "port_value": 4}, second); d != "" {
		t.Errorf("second endpoint (-want +got):\n%s", d)
	}
}

// Without addresses the file says what it says.
func TestBootstrapWithoutAddresses(t *testing.T) {
	file, err := os.ReadFile("envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	out, err := envoy.Bootstrap(envoy.Addresses{})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(decode(t, file), decode(t, out)); d != "" {
		t.Errorf("changed (-file +bootstrap):\n%s", d)
	}
}

func TestBootstrapRefuses(t *testing.T) {
	for _, c := range []struct {
		addresses envoy.Addresses
		want      string
	}{
		{envoy.Addresses{Clusters: map[string][]string{"autz": {"127.0.0.1:1"}}}, `no cluster "autz"`},
		{envoy.Addresses{Clusters: map[string][]string{"authz": {}}}, `no address for cluster "authz"`},
		{envoy.Addresses{Listener: "localhost:1"}, `address "localhost:1" is not IP:PORT`},
		{envoy.Addresses{Admin: "127.0.0.1"}, `address "127.0.0.1" is not IP:PORT`},
		{envoy.Addresses{Admin: "127.0.0.1:65536"}, `address "127.0.0.1:65536" is not IP:PORT`},
	} {
		if _, err := envoy.Bootstrap(c.addresses); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want %q", c.addresses, err, c.want)
		}
	}
}
