package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// collected is a receiver of spans (OTLP over HTTP), and what it got.
type collected struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*tracepb.Span
	text  strings.Builder
}

func collect(t *testing.T) *collected {
	c := &collected{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var sent collector.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &sent) != nil {
			t.Errorf("%s: %d bytes, %v", r.URL, len(body), err)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.text.WriteString(prototext.Format(&sent))
		for _, resource := range sent.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// named is the last span of that name; nil if there is none.
func (c *collected) named(name string) *tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.spans) - 1; i >= 0; i-- {
		if c.spans[i].GetName() == name {
			return c.spans[i]
		}
	}
	return nil
}

func TestTracesShowARenewalAndItsSteps(t *testing.T) {
	t.Parallel()
	spans := collect(t)
	idp, p := atScripted(t, nil, "OTEL_EXPORTER_OTLP_ENDPOINT="+spans.URL, "OTEL_BSP_SCHEDULE_DELAY=100")
	alice := p.person()
	back := parsedURL(t, callback(t, alice, "/auth/oidc?login_hint=alice@example.com"))
	alice.do(t, "GET", back.String(), nil)
	alice.do(t, "POST", "/api/renew-token", nil)
	eventually(t, "the spans arrive", func() bool { return spans.named("POST /api/renew-token") != nil && spans.named("renewal") != nil })
	renewal, asked := spans.named("renewal"), spans.named("POST /api/renew-token")
	if string(renewal.GetParentSpanId()) != string(asked.GetSpanId()) {
		t.Error("the renewal does not hang from the request that asked for it")
	}
	for _, step := range []string{"queue", "lease", "token call", "verify", "store"} {
		if span := spans.named(step); span == nil || string(span.GetParentSpanId()) != string(renewal.GetSpanId()) {
			t.Errorf("no step %q in the renewal: %v", step, span)
		}
	}
	if spans.named("settle") != nil {
		t.Error("a step in which there was nothing to do")
	}
	if spans.named("GET /auth/:provider/callback") == nil {
		t.Error("no span of the callback")
	}
	spans.mu.Lock()
	defer spans.mu.Unlock()
	secrets := append(idp.Issued(), back.Query().Get("code"), back.Query().Get("state"), "alice", alice.Jar.Cookies(parsedURL(t, p.base))[0].Value)
	for _, secret := range secrets {
		if secret == "" || strings.Contains(spans.text.String(), secret) || strings.Contains(spans.text.String(), url.QueryEscape(secret)) {
			t.Errorf("the spans hold %q", secret)
		}
	}
	if !strings.Contains(spans.text.String(), `"rotated"`) {
		t.Error("the spans do not say what became of the renewal")
	}
}

// What OpenTelemetry's library would pass over in silence is an error.
func TestTraceSettings(t *testing.T) {
	t.Parallel()
	const endpoint, protocol = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"
	for _, c := range []struct {
		set    map[string]string
		wanted bool
		err    string
	}{
		{map[string]string{}, false, ""},
		{map[string]string{endpoint: "https://otel:4318"}, true, ""},
		{map[string]string{endpoint: "https://otel:4318", protocol: "http/protobuf"}, true, ""},
		{map[string]string{endpoint: "https://otel:4318", "OTEL_SDK_DISABLED": "true"}, false, ""},
		{map[string]string{endpoint: "https://otel:4318", "OTEL_TRACES_EXPORTER": "none"}, false, ""},
		{map[string]string{endpoint: "::bad"}, false, endpoint + ": is no address"},
		{map[string]string{endpoint: "otel:4318"}, false, endpoint + ": is no address"},
		{map[string]string{endpoint: "https://otel:4317", protocol: "grpc"}, false, protocol + `: "grpc" is not known; allowed: http/protobuf`},
		{map[string]string{protocol: "grpc"}, false, ""},
	} {
		wanted, err := tracesWanted(c.set)
		if wanted != c.wanted || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%v: %v, %v", c.set, wanted, err)
		}
	}
}

// Anybody can send a traceparent. Only a trusted proxy's decides where a trace hangs.
func TestTraceparentIsBelievedFromATrustedProxyOnly(t *testing.T) {
	t.Parallel()
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, trusted := range []bool{true, false} {
		spans := collect(t)
		args := []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=" + spans.URL + "/v1/traces", "OTEL_BSP_SCHEDULE_DELAY=100"}
		if trusted {
			args = append(args, "--trusted-proxies=127.0.0.1,::1")
		}
		p := startProgram(t, args...)
		p.person().do(t, "GET", "/", nil, "Traceparent", parent)
		eventually(t, "the span arrives", func() bool { return spans.named("GET /") != nil })
		if hangs := len(spans.named("GET /").GetParentSpanId()) > 0; hangs != trusted {
			t.Errorf("trusted: %v, and its span has a parent: %v", trusted, hangs)
		}
	}
}

// What is wrong in OpenTelemetry's environment is wrong in the settings: nothing is to start Keyturn again for it.
func TestAWrongTraceSettingIsAWrongSetting(t *testing.T) {
	t.Parallel()
	p := &program{base: "http://localhost:0", dir: filepath.Join(t.TempDir(), "data"), args: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=grpc://x:1"}}
	cmd := p.operates(t)
	output, _ := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 2 || !strings.HasPrefix(string(output), "keyturn: OTEL_EXPORTER_OTLP_ENDPOINT: ") {
		t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), output)
	}
}

// A collector that takes nothing is told of now and then, not with each batch.
func TestACollectorThatIsAwayIsToldOfOnce(t *testing.T) {
	t.Parallel()
	var batches atomic.Int64
	away := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		batches.Add(1)
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(away.Close)
	p := startProgram(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+away.URL, "OTEL_BSP_SCHEDULE_DELAY=20")
	eventually(t, "several batches are refused", func() bool {
		p.person().do(t, "GET", "/", nil)
		return batches.Load() > 3
	})
	if n := strings.Count(p.log.String(), "spans were not sent"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, p.log)
	}
}

// A collector that refuses may repeat what it was sent, and a proxy before it what that was sent. Nothing of it is in the log.
func TestTheLogHasNoSecretsThatSpansAreSentWith(t *testing.T) {
	t.Parallel()
	repeats := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, secret, _ := r.BasicAuth()
		_, _ = fmt.Fprintf(w, "%s\n%s\ndenied for %s", r.Header, secret, strings.TrimPrefix(r.Header.Get("X-Other"), "Bearer "))
	}))
	t.Cleanup(repeats.Close)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 407 denied for S3cretPw99 %s\r\n\r\n", r.Header.Get("Proxy-Authorization"))
	}))
	t.Cleanup(proxy.Close)
	for name, args := range map[string][]string{
		"collector": {
			"OTEL_EXPORTER_OTLP_ENDPOINT=" + repeats.URL, "OTEL_EXPORTER_OTLP_HEADERS=api-key=S3cret%20Key1, X-Other = Bearer S3cretKey2," +
				"authorization=Basic " + base64.StdEncoding.EncodeToString([]byte("user:S3cretPw99")),
		},
		"proxy": {
			"OTEL_EXPORTER_OTLP_ENDPOINT=https://collector.example", "HTTPS_PROXY=" + strings.Replace(proxy.URL, "//", "//user:S3cretPw99@", 1),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProgram(t, append(args, "OTEL_BSP_SCHEDULE_DELAY=20")...)
			p.person().do(t, "GET", "/", nil)
			eventually(t, "it is said", func() bool { return strings.Contains(p.log.String(), "spans were not sent") })
			_, said, _ := strings.Cut(p.log.String(), "spans were not sent")
			if !strings.Contains(said, "denied for [redacted]") || strings.Contains(p.log.String(), "S3cret") || strings.Contains(said, "dXNlcjpT") {
				t.Error(said)
			}
		})
	}
}

// What is no header may be a key all the same, which the library would print.
func TestWhatIsNoHeaderIsAWrongSetting(t *testing.T) {
	t.Parallel()
	const headers = "OTEL_EXPORTER_OTLP_TRACES_HEADERS"
	for text, good := range map[string]bool{
		"": true, "a=b": true, " a = b%20c ,": true, "a=b=": true,
		"S3cret": false, "a=b,S3cret": false, "a=S3cret%": false, "Authorization: Bearer S3cret=": false, "=S3cret": false,
	} {
		if _, err := traceSecrets(map[string]string{headers: text}); (err == nil) != good || err != nil && (strings.Contains(err.Error(), "S3cret") || !strings.HasPrefix(err.Error(), headers)) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
