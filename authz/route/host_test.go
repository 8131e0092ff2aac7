package route

import (
	"strings"
	"testing"
)

func TestCanonicalHost(t *testing.T) {
	long := strings.Repeat("a.", 126) + "b" // 253
	for _, tt := range []struct{ authority, want string }{
		{"", ""},
		{"Ex.Test:8080", "ex.test"},
		{"ex.test.", "ex.test"},
		{"Ex.Test.:8080", "ex.test"},
		{"ex.test:0", "ex.test"},
		{"ex.test:65535", "ex.test"},
		{"my_service.ns", "my_service.ns"},
		{"localhost", "localhost"},
		{"127.0.0.1:80", "127.0.0.1"},
		{"[::1]", "[::1]"},
		{"[2001:DB8::1]:443", "[2001:db8::1]"},
		{"xn--bcher-kva.example", "xn--bcher-kva.example"},
		{long, long},
		{long + ".:65535", long},
	} {
		if got, err := canonicalHost(tt.authority); err != nil || got != tt.want {
			t.Errorf("%s: got %q, %v; want %q", tt.authority, got, err, tt.want)
		}
	}
}

func TestCanonicalHostRefuses(t *testing.T) {
	for reason, hosts := range map[string][]string{
		"is not a host name": {"h,evil", "a,b", "u@h", "h%20x", "h x", "h/x", "h..", ".", "..", ".h", "a..b", "h?", "h#", "*.h", "bücher.de",
			"h\x00", "h\r\n", "h;x", "'h'", "h!", ":80", ".:80", "h]", "a,b:80", "u@h:80"},
		"has a port": {"h:", "h:abc", "h:-1", "h:65536", "h:000080", "h:80:80", "::1", "h:80,", "h: 80", "api.example.com:80@admin.example.com", "u:p@h",
			"h:80."},
		"IPv6":               {"[", "[]", "[::1", "[fe80::1%25eth0]", "[fe80::1%eth0]", "[127.0.0.1]", "[h]", "[[::1]]"},
		"after its brackets": {"[::1].", "[::1]x", "[::1]:", "[::1]:x", "[::1]:80:80", "[::1]@h"},
		"is too long":        {strings.Repeat("a", 254), strings.Repeat("a.", 500)},
	} {
		for _, authority := range hosts {
			got, err := canonicalHost(authority)
			if err == nil {
				t.Errorf("%q: got %q, want an error", authority, got)
			} else if !strings.Contains(err.Error(), reason) {
				t.Errorf("%q: got %q, want %q in it", authority, err, reason)
			}
		}
	}
}

func FuzzHost(f *testing.F) {
	for _, s := range []string{"", "Ex.Test.:8080", "[::1]:80", "h,evil", "u@h", "a..b", "h:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, authority string) {
		got, err := canonicalHost(authority)
		if err != nil || got == "" {
			if err == nil && authority != "" {
				t.Fatalf("%q has an empty host", authority)
			}
			return
		}
		if again, err := canonicalHost(got); err != nil || again != got {
			t.Fatalf("%q becomes %q, and that %q, %v", authority, got, again, err)
		}
		if len(got) > maxHost || strings.ToLower(got) != got || strings.ContainsAny(got, "@,% /\\?#;") {
			t.Fatalf("%q becomes %q", authority, got)
		}
		if !strings.HasPrefix(strings.ToLower(authority), got) {
			t.Fatalf("%q does not begin with %q", authority, got)
		}
		if got[0] != '[' && strings.Contains(got, ":") {
			t.Fatalf("%q becomes %q, with a port", authority, got)
		}
	})
}
