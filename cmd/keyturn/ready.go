package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// readyPatience bounds the question; /readyz itself gives the database less.
const readyPatience = 4 * time.Second

// askReady asks the Keyturn that runs with these settings on this machine whether it is ready, but for the parts to
// exclude. It is a health check for where there is no other program to ask with, as in the container image.
func askReady(ctx context.Context, settings Settings, exclude []string, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	address := deriveBaseURL(settings.Addr, nil) + "/readyz"
	query := url.Values{"exclude": exclude}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"?"+query, nil)
	if err != nil {
		return err
	}
	// A transport of its own: the default one is made for calls to providers, which are encrypted.
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("%s does not answer: %w", address, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s is not ready: it answers %s%s", address, response.Status, failingIn(response.Body))
	}
	_, err = fmt.Fprintln(stdout, "ready")
	return err
}

// failingIn reads what an answer of /readyz names, as the end of an error; empty if it names nothing.
func failingIn(body io.Reader) string {
	var answer struct {
		Failing []string `json:"failing"`
	}
	if err := json.NewDecoder(io.LimitReader(body, 4096)).Decode(&answer); err != nil || len(answer.Failing) == 0 {
		return ""
	}
	return ": " + printable(strings.Join(answer.Failing, ", "))
}
