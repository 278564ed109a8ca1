package main

import (
	"strings"
	"testing"
)

// Neither listener lets a stranger raise a 5xx by what is no request of HTTP/1.1.
func TestWhatIsNoRequestIsTheClientsFault(t *testing.T) {
	t.Parallel()
	p := startProgram(t, anyAdmin)
	for _, base := range []string{p.base, adminOf(t, p)} {
		for _, raw := range []string{
			"GET /healthz HTTP/9.9\r\nHost: x\r\nConnection: close\r\n\r\n",
			"POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\nConnection: close\r\n\r\n",
		} {
			answer, err := send(parsedURL(t, base).Host, raw)
			if err != nil || !strings.HasPrefix(answer, "HTTP/1.1 400 Bad Request\r\n") {
				t.Errorf("%s, %q: %v %.60q", base, raw, err, answer)
			}
		}
	}
}
