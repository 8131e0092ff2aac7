package gate

import (
	"context"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/config"
	"github.com/sallyport-authz/sallyport/authz/extauthz"
	"github.com/sallyport-authz/sallyport/authz/route"
	"github.com/sallyport-authz/sallyport/authz/token"
)

type askerKey struct{}

// as returns a context in which a rehearsal takes who for the caller.
func as(ctx context.Context, who *token.Assumed) context.Context {
	return context.WithValue(ctx, askerKey{}, who)
}

func asker(ctx context.Context) *token.Assumed {
	who, _ := ctx.Value(askerKey{}).(*token.Assumed)
	return who
}

// rehearse returns a pipeline that decides as the generation's does, but takes
// callers at their word: policy tests and explanations of claims have no token.
// It shares programs and snapshots with the generation, and records nothing.
func (b *build) rehearse(specs []route.Spec, owned []string) (*authz.Pipeline, error) {
	copies := make([]route.Spec, len(specs))
	for i := range specs {
		rc, r := &b.cfg.Routes[i], *specs[i].Route
		if r.Authenticator != nil {
			r.Authenticator = b.tokens.verifier.Assuming(narrow(rc), asker)
			r.Conditions = conditions(rc, func(s *config.StepUp) authz.Condition { return stepUpThen{s} })
		}
		copies[i] = specs[i]
		copies[i].Route = &r
	}
	return authz.New(b.router(copies, owned), discard{}, authz.WithOwned(owned), authz.WithDeliverable(extauthz.Deliverable))
}

// stepUpThen is step-up at the time of the request, which a test may choose.
type stepUpThen struct{ *config.StepUp }

// Hold implements [authz.Condition].
func (s stepUpThen) Hold(ctx context.Context, r *authz.Request, sub *authz.Subject) error {
	return token.StepUp(s.ACR, s.MaxAge, func() time.Time { return r.Time }).Hold(ctx, r, sub)
}
