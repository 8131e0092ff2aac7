package gate

import "github.com/sallyport-authz/sallyport/authz/token/keys"

// expect tells the metrics which issuers and routes there are.
func (g *Gate) expect(gen *generation) {
	if g.tel == nil {
		return
	}
	var issuers, routes []string
	for _, k := range gen.keys {
		issuers = append(issuers, k.name)
	}
	for i := range gen.cfg.Routes {
		routes = append(routes, gen.cfg.Routes[i].Name)
	}
	g.tel.Expect(issuers, keys.Results(), routes)
}
