package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"

	"keyturn/auth/provider"
)

// checkTimeout bounds the check of one provider.
const checkTimeout = 20 * time.Second

// checked is what the check of one provider found, with what to register there.
type checked struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Label string `json:"label"`
	OK    bool   `json:"ok"`

	Callback           string `json:"callback_url"`
	PostLogoutRedirect string `json:"post_logout_redirect_url,omitempty"`
	BackChannel        string `json:"back_channel_logout_url,omitempty"`

	provider.Report
}

// checkProviders asks each provider of the settings whether it will work, and says so. It returns the exit code: 1 when
// something will not work, 2 when the settings are wrong. No database is opened, and nothing that is sent is secret.
func checkProviders(ctx context.Context, settings Settings, asJSON bool, log *slog.Logger, stdout, stderr io.Writer) int {
	base := settings.publicURL(nil)
	if _, err := settings.devProviderOn(base); err != nil {
		fmt.Fprintf(stderr, "keyturn: %v\n", err)
		return 2
	}
	set, err := provider.New(providerConfigs(settings, base), provider.Options{
		RenewTimeout: settings.RenewTimeout, Now: time.Now, Log: log,
	})
	if err != nil {
		fmt.Fprintf(stderr, "keyturn: %v\n", err)
		return 2
	}
	results := checkAll(ctx, set.All(), base)
	if asJSON {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(results)
	} else {
		_, err = io.WriteString(stdout, checkText(results))
	}
	if err != nil {
		fmt.Fprintf(stderr, "keyturn: %v\n", err)
		return 1
	}
	for _, result := range results {
		if !result.OK {
			return 1
		}
	}
	return 0
}

// checkAll checks the providers, all at once.
func checkAll(ctx context.Context, providers []provider.Provider, base string) []checked {
	results := make([]checked, len(providers))
	var all sync.WaitGroup
	for i, p := range providers {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, checkTimeout)
			defer cancel()
			result := checked{Name: p.Name(), Type: p.Type(), Label: p.Label(), Callback: callbackURL(base, p.Name())}
			if checker, ok := p.(provider.Checker); ok {
				result.Report = checker.Check(ctx)
			}
			if result.EndsSession {
				result.PostLogoutRedirect = base + "/"
			}
			if result.BackChannelLogout {
				result.BackChannel = base + "/auth/" + p.Name() + "/backchannel-logout"
			}
			result.OK = len(result.Wrong) == 0
			results[i] = result
		})
	}
	all.Wait()
	return results
}

// checkText is the results for people.
func checkText(results []checked) string {
	var b strings.Builder
	if len(results) == 0 {
		b.WriteString("No provider is set. The embedded one needs no check: it is part of the server.\n")
	}
	failed := 0
	for i, result := range results {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s (type %s, shown as %q)\n", result.Name, result.Type, printable(result.Label))
		for _, fact := range result.Facts {
			writeFact(&b, fact.Name, fact.Value)
		}
		b.WriteString("  To register there:\n")
		writeFact(&b, "  callback URL", result.Callback)
		writeFact(&b, "  post-logout redirect", result.PostLogoutRedirect)
		writeFact(&b, "  back-channel logout", result.BackChannel)
		writeList(&b, "Will not work:", result.Wrong)
		writeList(&b, "To know:", result.Mind)
		if !result.OK {
			failed++
		}
	}
	switch {
	case len(results) > 0 && failed == 0:
		b.WriteString("\nNothing stands against signing in.\n")
	case failed > 0:
		fmt.Fprintf(&b, "\n%d of %d providers will not work as they are set.\n", failed, len(results))
	}
	return b.String()
}

// writeFact writes one line, or none of what there is not.
func writeFact(b *strings.Builder, name, value string) {
	if value == "" {
		return
	}
	fmt.Fprintf(b, "  %-24s %s\n", name, printable(value))
}

func writeList(b *strings.Builder, title string, lines []string) {
	if len(lines) > 0 {
		fmt.Fprintf(b, "  %s\n", title)
	}
	for _, line := range lines {
		fmt.Fprintf(b, "    - %s\n", printable(line))
	}
}

// printable is a provider's text without what a terminal would obey.
func printable(text string) string {
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, text)
}
