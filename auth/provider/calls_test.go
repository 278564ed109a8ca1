package provider

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// An unsigned token with a key id, as anybody can make it.
const forged = "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.e30.AAAA"

// Forged tokens are no way to have Keyturn ask for keys all the time, where the keys cannot be had at all.
func TestKeysThatAreDownAreAskedForSeldom(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	now := time.Now()
	k := newKeys(server.URL, server.Client(), func() time.Time { return now })
	for range 100 {
		if _, err := k.VerifySignature(t.Context(), forged); err == nil || errors.Is(err, errNoKeyFits) {
			t.Fatalf("without keys: %v", err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the keys were asked for %d times at one moment", n)
	}
	now = now.Add(keysPause)
	_, _ = k.VerifySignature(t.Context(), forged)
	if n := asked.Load(); n != 2 {
		t.Errorf("the keys were asked for %d times when the pause was over", n)
	}
}

// Who comes while nobody asks costs nothing of what is set aside for new keys.
func TestAPauseCostsNoFetch(t *testing.T) {
	t.Parallel()
	now := time.Now()
	k := newKeys("http://127.0.0.1:1", http.DefaultClient, func() time.Time { return now })
	k.found, k.failed, k.failedAt = keySet{at: now}, errors.New("down"), now
	for range 2 * keysAgainBurst {
		if _, err := k.VerifySignature(t.Context(), forged); !errors.Is(err, k.failed) {
			t.Errorf("in the pause: %v", err)
		}
	}
	if left := k.again.TokensAt(now); left < keysAgainBurst {
		t.Errorf("%v fetches are left", left)
	}
}

// Keys cost time, and anybody may name none in a token.
func TestSoManyKeysAreTriedForASignature(t *testing.T) {
	t.Parallel()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	other, otherErr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	signer, signerErr := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private}, nil)
	if err := errors.Join(err, otherErr, signerErr); err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign([]byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := signed.CompactSerialize()
	jws, err := jose.ParseSignedCompact(text, signingAlgs)
	if err != nil {
		t.Fatal(err)
	}
	for before, want := range map[int]error{0: nil, maxTried - 1: nil, maxTried: errNoKeyFits} {
		set := keySet{keys: slices.Repeat([]jose.JSONWebKey{{Key: &other.PublicKey}}, before)}
		set.keys = append(set.keys, jose.JSONWebKey{Key: &private.PublicKey})
		if _, err := set.verify(jws); !errors.Is(err, want) {
			t.Errorf("after %d others: %v", before, err)
		}
	}
}

// A call whose client has no time-out ends all the same, wherever the server hangs.
func TestACallWithTheDefaultTransportEnds(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	}))
	defer server.Close()
	client := &http.Client{Transport: inTimeCalls{&http.Transport{}, time.Second}}
	if response, err := client.Get(server.URL + "/headers"); err == nil {
		_ = response.Body.Close()
		t.Error("a server that hangs has answered")
	}
	response, err := client.Get(server.URL + "/body")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.ReadAll(response.Body); err == nil {
		t.Error("a body that hangs came to its end")
	}
}
