package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// readyPatience bounds the question; /readyz itself gives the database less.
const readyPatience = 4 * time.Second

// askReady asks the Keyturn that runs with these settings on this machine whether it is ready. It is a health check for
// where there is no other program to ask with, as in the container image.
func askReady(ctx context.Context, settings Settings, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	address := deriveBaseURL(settings.Addr, nil) + "/readyz"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
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
		return fmt.Errorf("%s is not ready: it answers %s", address, response.Status)
	}
	_, err = fmt.Fprintln(stdout, "ready")
	return err
}
