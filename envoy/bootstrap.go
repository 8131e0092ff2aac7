// Package envoy holds the Envoy bootstrap that attaches Sallyport, and puts
// other addresses into it.
//
// envoy.yaml is a file to read and to run; the demo and the tests run the same
// bytes through [Bootstrap], which replaces addresses and nothing else. See
// README.md beside it for what each setting prevents.
package envoy

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

//go:embed envoy.yaml
var bootstrap []byte

// Addresses says where things are, each as IP:PORT. What is empty stays as
// envoy.yaml has it.
type Addresses struct {
	Listener string // of the listener "ingress"; port 0 picks one
	Admin    string // port 0 picks one
	// Clusters are the endpoints of each cluster by its name: authz, upstream,
	// otel.
	Clusters map[string][]string
}

// Bootstrap returns envoy.yaml with these addresses. A cluster that the file
// does not have, and an address that is no IP:PORT, are errors.
func Bootstrap(a Addresses) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(bootstrap, &doc); err != nil {
		return nil, fmt.Errorf("envoy: %w", err)
	}
	root := doc.Content[0]
	var errs []error
	set := func(address *yaml.Node, to string) {
		if err := setAddress(address, to); err != nil {
			errs = append(errs, err)
		}
	}
	if a.Admin != "" {
		set(path(root, "admin", "address"), a.Admin)
	}
	resources := path(root, "static_resources")
	if a.Listener != "" {
		set(path(named(path(resources, "listeners"), "ingress"), "address"), a.Listener)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Clusters)) {
		cluster := named(path(resources, "clusters"), name)
		if cluster == nil {
			errs = append(errs, fmt.Errorf("no cluster %q", name))
			continue
		}
		if err := setEndpoints(cluster, a.Clusters[name]); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("envoy: %w", err)
	}
	out, err := yaml.Marshal(&doc)
	if err != nil {
		return nil, fmt.Errorf("envoy: %w", err)
	}
	return out, nil
}

// setEndpoints gives a cluster one endpoint for each address, made after the
// one that the file has.
func setEndpoints(cluster *yaml.Node, addresses []string) error {
	if len(addresses) == 0 {
		return fmt.Errorf("no address for cluster %q", path(cluster, "name").Value)
	}
	list := path(path(cluster, "load_assignment", "endpoints").Content[0], "lb_endpoints")
	pattern, err := yaml.Marshal(list.Content[0])
	if err != nil {
		return err
	}
	list.Content = nil
	for _, address := range addresses {
		var endpoint yaml.Node
		if err := yaml.Unmarshal(pattern, &endpoint); err != nil {
			return err
		}
		item := endpoint.Content[0]
		if err := setAddress(path(item, "endpoint", "address"), address); err != nil {
			return err
		}
		list.Content = append(list.Content, item)
	}
	return nil
}

func setAddress(address *yaml.Node, to string) error {
	host, port, err := net.SplitHostPort(to)
	if err != nil {
		return fmt.Errorf("address %q is not IP:PORT", to)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil || net.ParseIP(host) == nil {
		return fmt.Errorf("address %q is not IP:PORT", to)
	}
	path(address, "socket_address", "address").Value = host
	path(address, "socket_address", "port_value").Value = port
	return nil
}

// path walks into mappings. It panics where envoy.yaml is not of that shape:
// the file is part of this package, and its tests hold it.
func path(n *yaml.Node, keys ...string) *yaml.Node {
	for _, key := range keys {
		i := 0
		for ; i < len(n.Content) && n.Content[i].Value != key; i += 2 {
		}
		n = n.Content[i+1]
	}
	return n
}

// named returns the element of a list that has this name, or nil.
func named(list *yaml.Node, name string) *yaml.Node {
	for _, n := range list.Content {
		if path(n, "name").Value == name {
			return n
		}
	}
	return nil
}
