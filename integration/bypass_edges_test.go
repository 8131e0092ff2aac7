package integration

import (
	"context"
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-authz/sallyport/envoy"
	"github.com/sallyport-authz/sallyport/integration/harness"
)

// object is a mapping of YAML.
type object = map[string]any

// A kind of edge is our bootstrap, changed.
type edgeKind struct {
	name   string
	change func(bootstrap, manager, filter object)
}

var edgeKinds = []edgeKind{
	{"ours", func(_, _, _ object) {}},

	// A gateway or sidecar of Istio with its defaults: dot segments are
	// resolved, slashes left alone, a fragment is cut off. Header lines are
	// merged, mutations unchecked, and nobody strips anything.
	{"istio", func(bootstrap, manager, filter object) {
		manager["merge_slashes"] = false
		manager["path_with_escaped_slashes_action"] = "KEEP_UNCHANGED"
		manager["upgrade_configs"] = []any{object{"upgrade_type": "websocket"}}
		manager["use_remote_address"] = false
		manager["forward_client_cert_details"] = "APPEND_FORWARD"
		stripNothing(manager)
		mergeHeaders(filter)
		staticLayer(bootstrap)["envoy.reloadable_features.http_reject_path_with_fragment"] = false
	}},

	// Whatever Envoy can be told to let pass, it lets pass.
	{"bare", func(bootstrap, manager, _ object) {
		manager["normalize_path"] = false
		manager["merge_slashes"] = false
		manager["path_with_escaped_slashes_action"] = "KEEP_UNCHANGED"
		manager["upgrade_configs"] = []any{object{"upgrade_type": "websocket"}, object{"upgrade_type": "CONNECT"}}
		manager["use_remote_address"] = false
		manager["forward_client_cert_details"] = "ALWAYS_FORWARD_ONLY"
		manager["http_protocol_options"] = object{"accept_http_10": true, "allow_chunked_length": true, "allow_custom_methods": true}
		manager["http2_protocol_options"] = object{"allow_connect": true}
		stripNothing(manager)
		host := manager["route_config"].(object)["virtual_hosts"].([]any)[0].(object)
		host["routes"] = append([]any{object{"match": object{"connect_matcher": object{}}, "route": object{"cluster": "upstream"}}}, host["routes"].([]any)...)
		staticLayer(bootstrap)["envoy.reloadable_features.http_reject_path_with_fragment"] = false
	}},

	// What Envoy Gateway makes of a SecurityPolicy: paths as ours, with a
	// redirect for escaped slashes; header lines merged, mutations unchecked.
	{"gateway", func(_, manager, filter object) {
		manager["path_with_escaped_slashes_action"] = "UNESCAPE_AND_REDIRECT"
		delete(manager, "early_header_mutation_extensions")
		mergeHeaders(filter)
	}},
}

func stripNothing(manager object) {
	delete(manager, "early_header_mutation_extensions")
	manager["common_http_protocol_options"].(object)["headers_with_underscores_action"] = "ALLOW"
}

func mergeHeaders(filter object) {
	for _, key := range []string{"encode_raw_headers", "validate_mutations", "decoder_header_mutation_rules"} {
		delete(filter, key)
	}
}

func staticLayer(bootstrap object) object {
	return bootstrap["layered_runtime"].(object)["layers"].([]any)[0].(object)["static_layer"].(object)
}

// ungated takes the check away: what is left is what Envoy alone refuses.
func ungated(change func(bootstrap, manager, filter object)) func(bootstrap, manager, filter object) {
	return func(bootstrap, manager, filter object) {
		change(bootstrap, manager, filter)
		manager["http_filters"] = manager["http_filters"].([]any)[1:]
	}
}

// startEdge starts an Envoy with our bootstrap, changed, and returns it.
func startEdge(t *testing.T, grpc, upstream string, change func(bootstrap, manager, filter object)) *harness.Envoy {
	t.Helper()
	text, err := envoy.Bootstrap(envoy.Addresses{
		Listener: "127.0.0.1:0", Admin: "127.0.0.1:0",
		Clusters: map[string][]string{"authz": {grpc}, "upstream": {upstream}, "otel": {"127.0.0.1:9"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var bootstrap object
	if err := yaml.Unmarshal(text, &bootstrap); err != nil {
		t.Fatal(err)
	}
	listener := bootstrap["static_resources"].(object)["listeners"].([]any)[0].(object)
	chain := listener["filter_chains"].([]any)[0].(object)
	manager := chain["filters"].([]any)[0].(object)["typed_config"].(object)
	filters := manager["http_filters"].([]any)
	i := slices.IndexFunc(filters, func(f any) bool { return f.(object)["name"] == "envoy.filters.http.ext_authz" })
	if i != 0 {
		t.Fatalf("ext_authz is filter %d, want the first", i)
	}
	filter := filters[i].(object)["typed_config"].(object)
	// Many requests at once on a machine that is busy with tests: a check
	// that takes long is not what this is about.
	filter["grpc_service"].(object)["timeout"] = "10s"
	filter["grpc_service"].(object)["retry_policy"].(object)["retry_back_off"].(object)["max_interval"] = "5s"
	delete(manager, "tracing")
	change(bootstrap, manager, filter)
	if text, err = yaml.Marshal(bootstrap); err != nil {
		t.Fatal(err)
	}
	e, err := harness.StartEnvoy(context.WithoutCancel(t.Context()), envoyBinary(t), text, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Kill)
	return e
}
