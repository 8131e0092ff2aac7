package extauthz_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/extauthz"
)

// browser is what Envoy sends for a browser behind it: 23 headers, a token of
// 900 bytes among them, 2 kB in all.
func browser() []string {
	return []string{
		":scheme: https",
		"sec-ch-ua: \"Chromium\";v=\"141\", \"Not?A_Brand\";v=\"8\"", "sec-ch-ua-mobile: ?0", "sec-ch-ua-platform: \"Linux\"",
		"upgrade-insecure-requests: 1", "user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
		"accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
		"sec-fetch-site: none", "sec-fetch-mode: navigate", "sec-fetch-user: ?1", "sec-fetch-dest: document",
		"accept-encoding: gzip, deflate, br, zstd", "accept-language: en-GB,en;q=0.9", "cookie: a=1; theme=dark",
		"authorization: Bearer " + strings.Repeat("a", 900), "priority: u=0, i", "x-forwarded-for: 192.0.2.7", "x-forwarded-proto: https",
		"x-request-id: 7b6c4f0e-1f0a-4c6b-9d9e-2b1f4f6a7c11", "x-envoy-external-address: 192.0.2.7",
	}
}

func BenchmarkRead(b *testing.B) {
	m := get(browser()...)
	b.SetBytes(int64(proto.Size(m)))
	b.ReportAllocs()
	for b.Loop() {
		if r := extauthz.Read(m, 0); len(r.Headers) != 19 {
			b.Fatal(len(r.Headers))
		}
	}
}

func BenchmarkRender(b *testing.B) {
	r := extauthz.Read(get(browser()...), 0)
	for name, w := range map[string]*world{
		"allow": {
			subject: &authz.Subject{ID: "user:corp/ada"},
			allow: authz.Answer{
				Set: []authz.Header{hdr("x-user", "ada"), hdr("x-roles", "clerk,manager")}, Remove: []string{"cookie", "x-tenant"},
				Response: []authz.Header{hdr("x-decision", "7")},
			},
		},
		"deny": {deny: authz.Refuse(authz.NotPermitted, "", nil)},
	} {
		b.Run(name, func(b *testing.B) {
			d := w.decide(b, r)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := extauthz.Render(r, d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
