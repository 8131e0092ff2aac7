package integration

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sallyport-authz/sallyport/authz/authztest"
)

// seriesOf returns each series of a scrape with its value.
func seriesOf(scrape string) map[string]float64 {
	found := map[string]float64{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z_]+(?:\{.*\})?) (\S+)$`).FindAllStringSubmatch(scrape, -1) {
		if v, err := strconv.ParseFloat(m[2], 64); err == nil {
			found[m[1]] = v
		}
	}
	return found
}

// What callers choose adds no series: 10,000 subjects, clients, roles, paths,
// hosts, methods, keys and issuers are counted where the first of each was.
//
// It takes every processor, so nothing that waits runs beside it.
func TestCallersAddNoSeries(t *testing.T) {
	w := newWorld(t, setup{noEnvoy: true})
	conn, err := grpc.NewClient(w.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ask := authv3.NewAuthorizationClient(conn)
	check := func(method, path, host, token string) error {
		resp, err := ask.Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
				Method: method, Path: path, Host: host, Headers: map[string]string{"authorization": "Bearer " + token},
			}},
		}})
		if err == nil && resp.GetStatus().GetCode() == 14 {
			err = fmt.Errorf("503: %v", resp)
		}
		return err
	}
	// One round is one of everything. Tokens that are refused before their
	// signature is looked at need none of their own.
	signature := authztest.Signature(func([]byte) []byte { return make([]byte, 64) })
	round := func(n int) error {
		id := strconv.Itoa(n)
		for _, c := range []struct{ method, path, host, token string }{
			{"GET", "/orders/" + id, id + ".example.com", w.issuer.Mint(map[string]any{"sub": "user" + id, "client_id": "web" + id, "roles": []string{"clerk", "role" + id}})},
			{"GET", "/orders/" + id, id + ".example.com", w.issuer.Mint(nil, authztest.Header("kid", "key"+id), signature)},
			{"M" + id, "/orders", "api.example.com", w.issuer.Mint(map[string]any{"iss": "https://" + id + ".example.com"}, signature)},
		} {
			if err := check(c.method, c.path, c.host, c.token); err != nil {
				return err
			}
		}
		return nil
	}
	if err := round(0); err != nil {
		t.Fatal(err)
	}
	before := seriesOf(w.scrape("text/plain"))

	const rounds, workers = 10000, 4
	var wait sync.WaitGroup
	for worker := range workers {
		wait.Go(func() {
			for n := worker + 1; n <= rounds; n += workers {
				if err := round(n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()

	after := seriesOf(w.scrape("text/plain"))
	for _, series := range slices.Sorted(maps.Keys(after)) {
		if _, ok := before[series]; !ok {
			t.Errorf("a new series: %s", series)
		}
	}
	for series, want := range map[string]float64{
		`authz_decisions_total{decision="allow",reason="allowed",route="orders"}`:      rounds,
		`authz_decisions_total{decision="deny",reason="invalid_token",route="orders"}`: 2 * rounds,
		`authz_token_validations_total{issuer="corp",result="ok"}`:                     rounds,
		`authz_token_validations_total{issuer="corp",result="unknown_key"}`:            rounds,
		`authz_token_validations_total{issuer="",result="unknown_issuer"}`:             rounds,
	} {
		if got := after[series] - before[series]; got != want {
			t.Errorf("%s grew by %v, want %v", series, got, want)
		}
	}
}
