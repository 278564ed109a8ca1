package handlers

import (
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider"
)

// As long as the first token is in use, the picture begins when the card says that it was issued, whatever tries have failed.
func TestThePictureBeginsWithTheFirstTokensIssue(t *testing.T) {
	t.Parallel()
	issued := time.Date(2026, 3, 1, 19, 2, 13, 9e8, time.UTC)
	created := issued.Add(200 * time.Millisecond)
	a := &app{Config: Config{Providers: &provider.Set{}, Now: time.Now}}
	failed := auth.Renewal{Generation: 1, At: issued.Add(time.Minute), Outcome: auth.OutcomeKept, OldExpiry: issued.Add(time.Hour)}
	renewed := auth.Renewal{Generation: 2, At: issued.Add(time.Minute), Outcome: auth.OutcomeRotated, OldExpiry: issued.Add(time.Hour)}
	for name, c := range map[string]struct {
		generation int64
		list       []auth.Renewal
		begins     time.Time
	}{
		"nothing was tried": {1, nil, issued}, "a try has failed": {1, []auth.Renewal{failed}, issued}, "it was renewed": {2, []auth.Renewal{renewed}, created},
	} {
		g := &auth.Grant{Generation: c.generation, CreatedAt: created, Tokens: auth.TokenSet{IssuedAt: issued, ExpiresAt: issued.Add(time.Hour)}}
		if began := a.timeline(auth.View{Grant: g}, c.list).Bars[0].IssuedAt; !began.Equal(c.begins) {
			t.Errorf("%s: the picture begins at %v", name, began)
		}
	}
}
