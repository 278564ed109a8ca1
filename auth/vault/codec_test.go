package vault

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyturn/auth"
	"keyturn/auth/authtest"
)

// storedGrant is what testdata/grant.json holds.
func storedGrant() *auth.Grant {
	at := func(hour int) time.Time { return time.Date(2026, 3, 1, hour, 0, 0, 0, time.UTC) }
	return &auth.Grant{
		Identity: auth.Identity{
			Issuer: "https://id.example.com", Name: "Alice", Email: "alice@example.com", Picture: "https://id.example.com/alice.png",
			Claims: map[string]any{"sub": "alice", "email_verified": true},
		},
		Kept: map[string]any{"plan": "gold"},
		Tokens: auth.TokenSet{
			Access: "access", Refresh: "refresh", ID: "id", Type: "Bearer", Scope: "openid offline_access", IssuedAt: at(1), ExpiresAt: at(2),
			Assumed: true, RefreshExpiresAt: at(3), RefreshNeverExpires: true, ClientAuth: "client_secret_post",
		},
		Pending: "pending", PendingFor: "pending for",
		Former: auth.Former{Access: "former access", Refresh: "former refresh", ID: "former id"},
		Standing: auth.Standing{
			Outcome: auth.OutcomeKept, TriedAt: at(4), Failures: 2, InvalidRequests: 1, Refused: true, Open: auth.CodeReplayed,
			Failure: auth.Failure{
				Code: "invalid_request", Detail: "detail", Said: "said", Party: auth.PartyProvider, Status: 400, Replay: auth.CodeReplayedAfterCrash,
			},
			NextTry: at(5), AutomaticAt: at(6),
		},
	}
}

// What was stored by an earlier version opens, all of it: the names in it are those of fields, and some of another package's.
func TestWhatIsStoredStaysReadable(t *testing.T) {
	t.Parallel()
	stored, err := os.ReadFile("testdata/grant.json")
	if err != nil {
		t.Fatal(err)
	}
	var g auth.Grant
	if err := decode(stored, &g); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(storedGrant(), &g); diff != "" {
		t.Errorf("of what is stored another grant is read (-stored +read):\n%s", diff)
	}
	var all sealedGrant
	if err := json.Unmarshal(stored, &all); err != nil {
		t.Fatal(err)
	}
	if names := authtest.Unfilled(all); len(names) > 0 {
		t.Errorf("testdata/grant.json lacks %v: add what is new to it, and change nothing that is there", names)
	}
	written, err := encode(&g)
	if err != nil {
		t.Fatal(err)
	}
	var want, got map[string]any
	if err := json.Unmarshal(stored, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(written, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("it is written otherwise (-stored +written):\n%s", diff)
	}
}
