package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"keyturn/auth/authtest"
)

func TestAFullDiskLeavesNoHalfAClientSecret(t *testing.T) {
	t.Parallel()
	dir := authtest.SmallDisk(t, "64k")
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	if _, err := devClientSecret(dir); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("on a full disk: %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	secret, err := devClientSecret(dir)
	if again, _ := devClientSecret(dir); err != nil || secret == "" || again != secret {
		t.Errorf("with room again: %v", err)
	}
}

// A published port, a tunnel and a proxy with TLS are there for browsers.
func TestTheEmbeddedProviderNeedsNoWayByTheBaseURL(t *testing.T) {
	t.Parallel()
	for host, base := range map[string]string{
		"localhost": "http://localhost:1", "": "https://localhost:1", "[::]": "http://keyturn-2.localhost:1", "0.0.0.0": "http://localhost:1",
	} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "localhost:0")
			if err != nil {
				t.Fatal(err)
			}
			here := listener.Addr().String()
			listener.Close()
			_, port, _ := net.SplitHostPort(here)
			p := launch(t, &program{dir: t.TempDir(), log: &authtest.Buffer{}, args: []string{"--base-url=" + base}}, host+":"+port)
			dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, here)
			}
			alice := p.person()
			alice.Transport = &http.Transport{DialContext: dial, DialTLSContext: dial}
			if a := alice.signIn(t, "alice"); a.url.Path != "/dashboard" {
				t.Fatalf("the sign-in ends at %s: %s\n%s", a.url, a.body, p.log)
			}
			p.kill(t)
			launch(t, p, host+":"+port)
			if a := alice.do(t, "POST", "/api/renew-token", nil); a.json(t)["outcome"] != "rotated" {
				t.Errorf("after a restart: %s\n%s", a.body, p.log)
			}
		})
	}
}
