package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

// ErrOver says that the provider has ended a sign-in before it was finished here.
var ErrOver = errors.New("the provider has ended the session that was signed in with")

// overFor is for how long it is remembered that a provider has ended a session: longer than a sign-in takes to be finished.
const overFor = time.Hour

// markOver remembers a logout for sign-ins that are being finished, whose grants are not there yet to be ended. They look once they are:
// whichever of the two is first, the other finds it.
func (s *Grants) markOver(ctx context.Context, at ProviderSession) error {
	marks := []string{overMark(at, true)}
	if at.SID != "" && at.Subject != "" {
		marks = append(marks, overMark(ProviderSession{Provider: at.Provider, Subject: at.Subject}, false))
	}
	until := s.now().Add(overFor)
	for _, mark := range marks {
		first, err := s.vault.Use(ctx, mark, until)
		if err == nil && !first {
			_, err = s.vault.Keep(ctx, mark, until)
		}
		if err != nil {
			return fmt.Errorf("remember a logout: %w", err)
		}
	}
	return nil
}

// notOver returns ErrOver for a grant that a logout is about (see ProviderSession) which came after its tokens were asked for.
func (s *Grants) notOver(ctx context.Context, g *Grant, asked time.Time) error {
	person := ProviderSession{Provider: g.Identity.Provider, Subject: g.Identity.Subject}
	marks := []string{overMark(person, true)}
	if sid := g.SID(); sid != "" {
		marks = append(marks, overMark(ProviderSession{Provider: person.Provider, SID: sid}, true),
			overMark(ProviderSession{Provider: person.Provider, SID: sid, Subject: person.Subject}, true))
	} else {
		marks = append(marks, overMark(person, false))
	}
	for _, mark := range marks {
		switch over, err := s.vault.Lasts(ctx, mark, asked.Add(overFor)); {
		case err != nil:
			return fmt.Errorf("look for a logout: %w", err)
		case over:
			return ErrOver
		}
	}
	return nil
}

// overMark is what remembers a logout; not all: of those of a person's sessions only that the provider has not named.
func overMark(at ProviderSession, all bool) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %v", at.Provider, at.SID, at.Subject, all))
	return "over " + base64.RawURLEncoding.EncodeToString(sum[:])
}
