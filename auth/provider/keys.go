package provider

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/time/rate"

	"keyturn/auth/tokenendpoint"
)

const (
	maxKeys  = 500 // in a key set; more are nobody's, and only cost time
	maxTried = 32  // keys tried for one signature
	keysStay = time.Hour

	// Keys are fetched again for a signature that none of the known ones made: three times in a row, then once in this time. What
	// strangers can send has as much for itself, so that it costs no sign-in and no renewal a fetch.
	keysAgain      = 20 * time.Second
	keysAgainBurst = 3
	// keysPause is how long nobody asks again after a fetch that brought nothing, whatever was the reason to ask. With each more in a row
	// it is longer by as much, up to longestKeysPause.
	keysPause        = time.Second
	longestKeysPause = 5 * time.Second
)

// signingAlgs prove that the provider signed: neither none, nor HMAC with a secret that others know.
var signingAlgs = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512, jose.EdDSA,
}

var (
	errNoKeyFits   = errors.New("none of the provider's keys made the signature")
	errKeysUnasked = errors.New("the keys that are here may be old")
)

// keys is the provider's key set (RFC 7517), an oidc.KeySet. go-oidc's own takes any key for any algorithm, fetches the
// set once for each bad signature, and trusts a key that the provider has withdrawn for as long as the process lives. It
// is safe for concurrent use.
type keys struct {
	url       string
	client    *http.Client
	now       func() time.Time
	again     *rate.Limiter // for what came from the provider itself
	strangers *rate.Limiter // for what anybody may have sent, as often as they like

	mu       sync.Mutex
	found    *keySet       // nil: nothing yet
	running  *keyFetch     // nil: none
	failed   error         // why the latest fetch brought nothing
	failedAt time.Time     // when
	pause    time.Duration // from then on nobody asks again
}

// keySet is what one fetch brought.
type keySet struct {
	keys  []jose.JSONWebKey
	at    time.Time
	asked time.Time // when the fetch began, with a monotonic reading
}

// keyFetch is a fetch, for all who wait for it. What it brought is there when it is done.
type keyFetch struct {
	done  chan struct{}
	again *rate.Limiter // is charged for it if it brings a set; nil: none
	set   *keySet
	err   error
}

func newKeys(url string, client *http.Client, now func() time.Time) *keys {
	limiter := func() *rate.Limiter { return rate.NewLimiter(rate.Every(keysAgain), keysAgainBurst) }
	return &keys{url: url, client: client, now: now, again: limiter(), strangers: limiter()}
}

// keyUse goes with the caller's context through go-oidc's verifier, which does not pass on an error that can be told from a bad
// signature.
type keyUse struct {
	known       bool  // only keys that are here already
	stranger    bool  // anybody may have made the token, or may ask as often as they like
	unavailable error // the answer: why there are no keys, for want of which nothing is verified
	unfit       bool  // the answer: no key made the signature, or its algorithm is not announced
}

type keyUseOf struct{}

func (u *keyUse) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, keyUseOf{}, u)
}

// VerifySignature implements oidc.KeySet. The token is a JWS in compact form; a key comes from the provider's set and never
// from the token's own header.
func (k *keys) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(token, signingAlgs)
	if err != nil {
		return nil, fmt.Errorf("not a signed token: %w", err)
	}
	use, ok := ctx.Value(keyUseOf{}).(*keyUse)
	if !ok {
		use = &keyUse{}
	}
	payload, err := k.verify(ctx, jws, use)
	if errors.Is(err, errNoKeyFits) {
		use.unfit = true
	} else {
		use.unavailable = err
	}
	return payload, err
}

func (k *keys) verify(ctx context.Context, jws *jose.JSONWebSignature, use *keyUse) ([]byte, error) {
	k.mu.Lock()
	known := k.found
	k.mu.Unlock()
	began, old := time.Now(), known == nil || k.now().Sub(known.at) > keysStay
	if use.known {
		if !old {
			if payload, err := known.verify(jws); err == nil {
				return payload, nil
			}
		}
		return nil, errKeysUnasked
	}
	if old {
		fetched, err := k.newer(ctx, known, nil)
		if err != nil && known == nil {
			return nil, err
		}
		if err == nil {
			known = fetched
		} // else the ones that are here go on
	}
	again := k.again
	if use.stranger {
		again = k.strangers
	}
	for {
		payload, err := known.verify(jws)
		if err == nil || !known.asked.Before(began) {
			return payload, err
		}
		// A new key, perhaps (OpenID Connect Core section 10.1.1). A set that was asked for before tells nothing of it.
		if known, err = k.newer(ctx, known, again); err != nil {
			return nil, err
		}
	}
}

// verify tries the keys that could have made the signature. The error is errNoKeyFits, and what is wrong with the key that the token names.
func (s *keySet) verify(jws *jose.JSONWebSignature) ([]byte, error) {
	header, tried, passedOver := jws.Signatures[0].Header, 0, ""
	for i := range s.keys {
		key := &s.keys[i]
		if header.KeyID != "" && key.KeyID != header.KeyID {
			continue
		}
		if why := unfit(key, header.Algorithm); why != "" {
			passedOver = why
			continue
		}
		if tried++; tried > maxTried {
			break
		}
		if payload, err := jws.Verify(key.Key); err == nil {
			return payload, nil
		}
	}
	if header.KeyID != "" && tried == 0 && passedOver != "" {
		return nil, fmt.Errorf("%w: the key %q, which it names, %s", errNoKeyFits, short(header.KeyID), passedOver)
	}
	return nil, errNoKeyFits
}

// unfit is why a key is not taken for signatures of that algorithm: it is not meant for them, or too weak. "" for one that is.
func unfit(key *jose.JSONWebKey, alg string) (why string) {
	switch {
	case key.Use != "" && key.Use != "sig":
		return fmt.Sprintf("has the use %q, and not \"sig\"", short(key.Use))
	case key.Algorithm != "" && key.Algorithm != alg:
		return fmt.Sprintf("is for %q, and not for %s", short(key.Algorithm), alg)
	}
	ofItsKind := false
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		ofItsKind = strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
		if bits := public.N.BitLen(); bits < tokenendpoint.MinRSABits {
			return fmt.Sprintf("has %d bits, of which RSA needs %d", bits, tokenendpoint.MinRSABits)
		}
		if public.E < 3 {
			return fmt.Sprintf("has the exponent %d", public.E)
		}
	case *ecdsa.PublicKey:
		ofItsKind = alg == map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[public.Params().BitSize]
	case ed25519.PublicKey:
		ofItsKind = alg == string(jose.EdDSA)
	}
	if !ofItsKind {
		return "is of another kind than those of " + alg
	}
	return ""
}

// newer is a set that came since the caller found the known one here.
func (k *keys) newer(ctx context.Context, known *keySet, again *rate.Limiter) (*keySet, error) {
	found, running, err := k.ask(known, again)
	if running == nil {
		return found, err
	}
	select {
	case <-running.done:
		return running.set, running.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ask returns a set that is newer than the known one, or the fetch that brings it. One fetch serves all who wait, and outlives them; one
// that failed, those who come just after it. The limiter, if there is one, is asked only for a fetch that would be one more, and is charged
// only for one that brings a set: what failed says nothing of the keys. Strangers' is charged at once.
func (k *keys) ask(known *keySet, again *rate.Limiter) (newer *keySet, running *keyFetch, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	since := now.Sub(k.failedAt)
	switch {
	case k.found != known:
		return k.found, nil, nil
	case k.running != nil:
		return nil, k.running, nil
	case k.failed != nil && since >= 0 && since < k.pause:
		return nil, nil, k.failed
	case again != nil && again.TokensAt(now) < 1:
		if k.failed != nil {
			return nil, nil, k.failed
		}
		return nil, nil, ErrKeysResting
	}
	if again == k.strangers {
		again.AllowN(now, 1)
		again = nil
	}
	running = &keyFetch{done: make(chan struct{}), again: again}
	k.running = running
	go k.run(running)
	return nil, running, nil
}

func (k *keys) run(running *keyFetch) {
	defer close(running.done)
	running.set, running.err = k.fetch()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running, k.failed, k.failedAt = nil, running.err, k.now()
	if running.err != nil {
		k.pause = min(k.pause+keysPause, longestKeysPause)
		return
	}
	k.found, k.pause = running.set, 0
	if running.again != nil {
		running.again.AllowN(k.failedAt, 1)
	}
}

func (k *keys) fetch() (_ *keySet, err error) {
	defer calm(&err)
	asked := time.Now()
	response, err := k.client.Get(k.url)
	if err != nil {
		return nil, fmt.Errorf("keys: %s", reason(err))
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("keys: the answer has status %d, or broke off", response.StatusCode)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil || set.Keys == nil {
		return nil, errors.New("keys: the answer is no key set")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("keys: the set has %d; more than %d are not read", len(set.Keys), maxKeys)
	}
	if len(set.Keys) == 0 {
		return nil, errors.New("keys: the set is empty") // for a moment, as a rule: the ones that are here go on
	}
	return &keySet{keys: understood(set.Keys), at: k.now(), asked: asked}, nil
}

// understood are the keys that can be read: others are passed over (RFC 7517 section 5).
func understood(set []json.RawMessage) (list []jose.JSONWebKey) {
	for _, text := range set {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(withoutCertificates(text)) == nil {
			list = append(list, key)
		}
	}
	return list
}

// withoutCertificates is a key without what it may say of certificates (RFC 7517 sections 4.6 to 4.9): the key itself is trusted as it
// came from the provider, and one whose certificate is odd would not be read.
func withoutCertificates(text []byte) []byte {
	var members map[string]json.RawMessage
	if json.Unmarshal(text, &members) != nil {
		return text
	}
	for _, name := range []string{"x5u", "x5c", "x5t", "x5t#S256"} {
		delete(members, name)
	}
	if plain, err := json.Marshal(members); err == nil {
		return plain
	}
	return text
}

// calm turns a panic over what somebody else wrote into an error: nothing of theirs may end the program.
func calm(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the answer could not be read: %s", short(fmt.Sprint(p)))
	}
}
