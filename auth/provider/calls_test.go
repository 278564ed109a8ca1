package provider

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/time/rate"
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
	for range 100 {
		now = now.Add(keysPause)
		_, _ = k.VerifySignature(t.Context(), forged)
	}
	if n := asked.Load(); n < 20 || n > 25 {
		t.Errorf("the keys were asked for %d times in 100 s more, want one in 5 s", n)
	}
}

// Whom a key set is out of reach for while the provider takes a new key need not wait for more than a pause once it is back. Strangers may.
func TestFetchesThatFailTakeNoneFromThoseToCome(t *testing.T) {
	t.Parallel()
	k, provider, token := rotated(t)
	close(provider.let)
	now := time.Now()
	k.now, k.client = func() time.Time { return now }, &http.Client{Transport: http.NewFileTransport(http.Dir(t.TempDir()))}
	stranger := &keyUse{stranger: true}
	for range 10 {
		for _, use := range []*keyUse{stranger, {}} {
			if _, err := k.VerifySignature(use.in(t.Context()), token); err == nil || errors.Is(err, errNoKeyFits) {
				t.Errorf("without keys: %v", err)
			}
			now = now.Add(longestKeysPause / 10)
		}
	}
	if own, strangers := k.again.TokensAt(now), k.strangers.TokensAt(now); own != keysAgainBurst || strangers >= keysAgainBurst {
		t.Errorf("%v fetches are left, and %v for strangers", own, strangers)
	}
	k.client = &http.Client{Transport: provider}
	now = now.Add(longestKeysPause)
	if _, err := k.VerifySignature(t.Context(), token); err != nil {
		t.Errorf("when they are back: %v", err)
	}
	if own := k.again.TokensAt(now); own != keysAgainBurst-1 {
		t.Errorf("%v fetches are left", own)
	}
}

// Who comes while nobody asks costs nothing of what is set aside for new keys.
func TestAPauseCostsNoFetch(t *testing.T) {
	t.Parallel()
	now := time.Now()
	k := newKeys("http://127.0.0.1:1", http.DefaultClient, func() time.Time { return now })
	k.found, k.failed, k.failedAt, k.pause = &keySet{at: now}, errors.New("down"), now, keysPause
	for range 2 * keysAgainBurst {
		if _, err := k.VerifySignature(t.Context(), forged); !errors.Is(err, k.failed) {
			t.Errorf("in the pause: %v", err)
		}
	}
	if left := k.again.TokensAt(now); left < keysAgainBurst {
		t.Errorf("%v fetches are left", left)
	}
}

// published answers each question for a key set with one of the key, once it is let.
type published struct {
	key   jose.JSONWebKey
	asked atomic.Int32
	let   chan struct{}
}

// RoundTrip implements http.RoundTripper.
func (p *published) RoundTrip(*http.Request) (*http.Response, error) {
	p.asked.Add(1)
	<-p.let
	body, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{p.key}})
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(body))}, err
}

// rotated are keys of which another is published by now, and a token that is signed with that one.
func rotated(t *testing.T) (*keys, *published, string) {
	t.Helper()
	token, public := signedWithNewKey(t)
	provider := &published{key: public, let: make(chan struct{})}
	k := newKeys("https://op.example/keys", &http.Client{Transport: provider}, time.Now)
	k.found = &keySet{at: time.Now()}
	return k, provider, token
}

// Many come at once when a provider has taken a new key. What one of them fetches does for all, who pay for no more; and who goes
// meanwhile neither waits nor takes it from the others.
func TestOneFetchServesAllWhoNeedANewKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, provider, token := rotated(t)
		leaving, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := k.VerifySignature(leaving, token)
			left <- err
		}()
		synctest.Wait()
		verified := make(chan error, 10)
		for n := range cap(verified) {
			use := &keyUse{stranger: n%2 == 0}
			go func() {
				_, err := k.VerifySignature(use.in(t.Context()), token)
				verified <- err
			}()
		}
		synctest.Wait()
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who goes: %v", err)
		}
		close(provider.let)
		for range cap(verified) {
			if err := <-verified; err != nil {
				t.Error(err)
			}
		}
		if n := provider.asked.Load(); n != 1 {
			t.Errorf("the keys were fetched %d times", n)
		}
		if own, strangers := k.again.Tokens(), k.strangers.Tokens(); own != keysAgainBurst-1 || strangers != keysAgainBurst {
			t.Errorf("%v fetches are left, and %v for strangers", own, strangers)
		}
	})
}

// A set that was asked for before a token was there does not prove it forged: its key may have been taken since.
func TestAnEarlierFetchProvesNoTokenForged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, provider, first := rotated(t)
		second, later := signedWithNewKey(t)
		verified := make(chan error, 2)
		go func() { _, err := k.VerifySignature(t.Context(), first); verified <- err }()
		synctest.Wait()
		time.Sleep(time.Millisecond)
		go func() { _, err := k.VerifySignature(t.Context(), second); verified <- err }()
		synctest.Wait()
		provider.let <- struct{}{}
		synctest.Wait()
		provider.key = later
		close(provider.let)
		for range cap(verified) {
			if err := <-verified; err != nil {
				t.Error(err)
			}
		}
		if n := provider.asked.Load(); n != 2 {
			t.Errorf("the keys were fetched %d times", n)
		}
	})
}

// Who looked before a fetch ended needs none of their own, also where no more may be made.
func TestKeysThatCameMeanwhileCostNoFetch(t *testing.T) {
	t.Parallel()
	k, provider, token := rotated(t)
	close(provider.let)
	before := k.found
	if _, err := k.VerifySignature(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	none := rate.NewLimiter(0, 0)
	if set, err := k.newer(t.Context(), before, none); err != nil || set != k.found {
		t.Errorf("with what was known before: %v, %v", set, err)
	}
	if _, err := k.newer(t.Context(), k.found, none); !errors.Is(err, ErrKeysResting) {
		t.Errorf("with what is known now: %v", err)
	}
	if n := provider.asked.Load(); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}
}

// signedWithNewKey is a token, and the key that proves it.
func signedWithNewKey(t *testing.T) (token string, public jose.JSONWebKey) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	signer, signerErr := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private}, nil)
	if err := errors.Join(err, signerErr); err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign([]byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	token, err = signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token, jose.JSONWebKey{Key: &private.PublicKey}
}

// Keys cost time, and anybody may name none in a token.
func TestSoManyKeysAreTriedForASignature(t *testing.T) {
	t.Parallel()
	text, public := signedWithNewKey(t)
	_, other := signedWithNewKey(t)
	jws, err := jose.ParseSignedCompact(text, signingAlgs)
	if err != nil {
		t.Fatal(err)
	}
	for before, want := range map[int]error{0: nil, maxTried - 1: nil, maxTried: errNoKeyFits} {
		set := keySet{keys: append(slices.Repeat([]jose.JSONWebKey{other}, before), public)}
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
