package gate

import (
	"context"
	"fmt"
	"sync"

	"github.com/sallyport-authz/sallyport/authz/token/keys"
)

// issuerKeys are the keys of one issuer in one generation.
type issuerKeys struct {
	name     string
	id       string // what the set was made from
	set      *keys.Set
	required bool
}

// A keyring holds the key sets of all issuers. They outlive generations: an
// issuer that did not change keeps its keys, and their age, over a reload.
type keyring struct {
	ctx  context.Context // how long sets run; nil: they never do
	wait sync.WaitGroup
	opts func(issuer string, set func() *keys.Set) []keys.Option

	mu      sync.Mutex
	running map[string]*runningSet
}

type runningSet struct {
	set  *keys.Set
	stop context.CancelFunc // nil: not started yet
}

// newKeyring returns a keyring whose sets run until ctx ends.
func newKeyring(ctx context.Context) *keyring {
	k := newOfflineKeyring()
	k.ctx = ctx
	return k
}

// newOfflineKeyring returns a keyring that never fetches anything.
func newOfflineKeyring() *keyring { return &keyring{running: make(map[string]*runningSet)} }

// get returns the set for a configuration, an old one where there is one.
func (k *keyring) get(name string, cfg keys.Config) (id string, set *keys.Set, err error) {
	// Files count by their contents: a changed one is another set.
	id = fmt.Sprintf("%q %#v %x", name, cfg, digest([]string{cfg.JWKSFile, cfg.CAFile}))
	k.mu.Lock()
	defer k.mu.Unlock()
	if r, ok := k.running[id]; ok {
		return id, r.set, nil
	}
	var opts []keys.Option
	if k.opts != nil {
		opts = k.opts(name, func() *keys.Set { return set })
	}
	set, err = keys.New(cfg, opts...)
	if err != nil {
		return "", nil, err
	}
	k.running[id] = &runningSet{set: set}
	return id, set, nil
}

// keep starts the sets of a generation that do not run yet and stops all
// others.
func (k *keyring) keep(sets []issuerKeys) {
	if k.ctx == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	wanted := make(map[string]bool, len(sets))
	for _, s := range sets {
		wanted[s.id] = true
		if r := k.running[s.id]; r != nil && r.stop == nil {
			var ctx context.Context
			ctx, r.stop = context.WithCancel(k.ctx)
			k.wait.Go(func() { r.set.Run(ctx) })
		}
	}
	for id, r := range k.running {
		if !wanted[id] {
			if r.stop != nil {
				r.stop()
			}
			delete(k.running, id)
		}
	}
}
