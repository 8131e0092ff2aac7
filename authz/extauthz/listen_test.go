package extauthz_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/extauthz"
)

func TestListenTCP(t *testing.T) {
	l, err := extauthz.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if port := l.Addr().(*net.TCPAddr).Port; port == 0 {
		t.Error("no port was picked")
	}
	if _, err := extauthz.Listen(t.Context(), l.Addr().String()); err == nil || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("a taken port: %v", err)
	}
}

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "authz.sock")
	w := &world{}
	s, err := extauthz.NewServer(w.pipeline(t))
	if err != nil {
		t.Fatal(err)
	}
	l, err := extauthz.Listen(t.Context(), "unix://"+path)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, l)
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v, want a socket with 0660", info.Mode(), err)
	}
	conn := dial(t, "unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if resp := check(t, conn, get()); reasonOf(resp) != authz.Allowed {
		t.Errorf("got %v", resp)
	}

	_, err = extauthz.Listen(t.Context(), "unix://"+path)
	if err == nil || !strings.Contains(err.Error(), "another process listens there") || !strings.Contains(err.Error(), path) {
		t.Errorf("a live socket: %v", err)
	}
	if resp := check(t, conn, get()); reasonOf(resp) != authz.Allowed {
		t.Errorf("the live socket is broken: %v", resp)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}
}

// A process that was killed leaves its socket behind.
func TestListenUnixStale(t *testing.T) {
	path := filepath.Join(t.TempDir(), "authz.sock")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	l, err := extauthz.Listen(t.Context(), "unix://"+path)
	if err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestListenUnixRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ addr, want string }{
		"a file":           {"unix://" + file, "not a socket"},
		"a link":           {"unix://" + link, "not a socket"},
		"a folder":         {"unix://" + dir, "not a socket"},
		"a relative path":  {"unix://run/authz.sock", `path "run/authz.sock" is not absolute`},
		"no path":          {"unix://", "is not absolute"},
		"no such folder":   {"unix://" + dir + "/none/authz.sock", "no such file or directory"},
		"below a file":     {"unix://" + file + "/authz.sock", "not a directory"},
		"longer than fits": {"unix://" + dir + "/" + strings.Repeat("a", 120), "invalid argument"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := extauthz.Listen(t.Context(), c.addr)
			if err == nil {
				_ = l.Close()
				t.Fatal("it listens")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.addr) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file was touched: %q, %v", b, err)
	}
}
