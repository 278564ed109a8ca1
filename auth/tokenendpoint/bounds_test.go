package tokenendpoint

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"keyturn/auth"
)

// counted is a reader that counts what is read of it.
type counted struct {
	from io.Reader
	n    int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.n += n
	return n, err
}

func packed(t *testing.T, plain io.Reader) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := io.Copy(w, plain)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Neither what comes nor what becomes of it, unpacked, is read without end.
func TestABodyIsReadSoFar(t *testing.T) {
	t.Parallel()
	const endless = 8 << 20
	for name, body := range map[string]io.Reader{
		"plain":                                  io.LimitReader(zeros{}, endless),
		"small, and large when it is unpacked":   bytes.NewReader(packed(t, io.LimitReader(zeros{}, endless))),
		"large, and nothing when it is unpacked": bytes.NewReader(bytes.Repeat(packed(t, strings.NewReader("")), endless/20)),
	} {
		from := &counted{from: body}
		got, err := readBody(from)
		if from.n > maxBody+1 || len(got) > maxBody+1 || err == nil {
			t.Errorf("%s: %d bytes are read, %d come of them, %v", name, from.n, len(got), err)
		}
	}
}

func TestHeadersAreReadSoFar(t *testing.T) {
	t.Parallel()
	for size, fits := range map[int]bool{32 << 10: true, 96 << 10: false} {
		client := clientOf(t, NoAuthentication, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", size))
			fmt.Fprint(w, `{"access_token":"a"}`)
		})
		if _, err := client.Exchange(t.Context(), refresh); (err == nil) != fits {
			t.Errorf("headers of %d bytes: %v", size, err)
		}
	}
}

// What has not left costs no refresh token, and the operator is told that nobody was there.
func TestATimeOutBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	client := clientOf(t, NoAuthentication, func(http.ResponseWriter, *http.Request) { t.Error("asked") })
	client.HTTP.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := client.Exchange(ctx, refresh)
	var refusal *auth.ProviderError
	if !errors.As(err, &refusal) || refusal.Delivery != auth.DeliveryNotSent || refusal.Failure.Code != auth.CodeUnreachable ||
		refusal.Failure.Detail != "no connection in time" {
		t.Errorf("%+v", refusal)
	}
}

// Whatever a request has in it that is secret may come back in its refusal.
func TestAnEchoOfAnyParameterIsRedacted(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"refresh_token", "code", "code_verifier", "token", "state", "nonce", "code_challenge", "id_token_hint"} {
		client := clientOf(t, NoAuthentication, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"error":"invalid_grant","error_description":"what is %s?"}`, r.PostFormValue(name))
		})
		form := url.Values{name: {"the-secret-in-it"}}
		_, exchange := client.Exchange(t.Context(), form)
		_, push := client.Push(t.Context(), client.TokenURL, form)
		for _, err := range []error{exchange, push} {
			if text := fmt.Sprint(err); !strings.Contains(text, "what is [redacted]?") {
				t.Errorf("%s: %s", name, text)
			}
		}
	}
}

func TestRetryAfterInSecondsOrAsADate(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "5": 5 * time.Second, "-5": 0, "99999999999": 24 * time.Hour, "soon": 0,
		now.Add(time.Hour).Format(http.TimeFormat): time.Hour, now.Add(-time.Hour).Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
	for _, skew := range []time.Duration{-30 * time.Second, 30 * time.Second, -time.Hour} {
		theirs := now.Add(skew)
		header := http.Header{"Date": {theirs.Format(http.TimeFormat)}, "Retry-After": {theirs.Add(20 * time.Second).Format(http.TimeFormat)}}
		if got := retryAfter(header, now); got != 20*time.Second {
			t.Errorf("by a clock that is %v off: %v, want 20 s", skew, got)
		}
	}
}
