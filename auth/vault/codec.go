package vault

import (
	"encoding/json"
	"time"

	"keyturn/auth"
)

// sealedGrant is the plain text of a sealed blob. Its field names are a storage format: add, never rename.
type sealedGrant struct {
	Issuer  string      `json:"iss,omitempty"`
	Name    string      `json:"name,omitempty"`
	Email   string      `json:"email,omitempty"`
	Picture string      `json:"picture,omitempty"`
	Claims  auth.Claims `json:"claims,omitempty"`
	Kept    auth.Claims `json:"kept,omitempty"`

	Access              string    `json:"access_token"`
	Refresh             string    `json:"refresh_token,omitempty"`
	ID                  string    `json:"id_token,omitempty"`
	Pending             string    `json:"pending_id_token,omitempty"`
	PendingFor          string    `json:"pending_for,omitempty"`
	Type                string    `json:"token_type"`
	Scope               string    `json:"scope,omitempty"`
	IssuedAt            time.Time `json:"issued_at"`
	ExpiresAt           time.Time `json:"expires_at"`
	Assumed             bool      `json:"assumed,omitempty"`
	RefreshExpiresAt    time.Time `json:"refresh_expires_at,omitzero"`
	RefreshNeverExpires bool      `json:"refresh_never_expires,omitempty"`
	ClientAuth          string    `json:"client_auth,omitempty"`

	FormerAccess  string `json:"former_access_claims,omitempty"`
	FormerRefresh string `json:"former_refresh_claims,omitempty"`
	FormerID      string `json:"former_id_claims,omitempty"`

	Standing auth.Standing `json:"standing"`
}

func encode(g *auth.Grant) ([]byte, error) {
	t := g.Tokens
	return json.Marshal(sealedGrant{
		Issuer: g.Identity.Issuer, Name: g.Identity.Name, Email: g.Identity.Email, Picture: g.Identity.Picture,
		Claims: g.Identity.Claims, Kept: g.Kept,
		Access: t.Access.Reveal(), Refresh: t.Refresh.Reveal(), ID: t.ID.Reveal(), Pending: g.Pending.Reveal(), PendingFor: g.PendingFor.Reveal(),
		Type: t.Type, Scope: t.Scope, IssuedAt: t.IssuedAt.UTC(), ExpiresAt: t.ExpiresAt.UTC(), Assumed: t.Assumed,
		RefreshExpiresAt: t.RefreshExpiresAt.UTC(), RefreshNeverExpires: t.RefreshNeverExpires, ClientAuth: t.ClientAuth,
		FormerAccess: g.Former.Access, FormerRefresh: g.Former.Refresh, FormerID: g.Former.ID, Standing: g.Standing,
	})
}

func decode(plain []byte, g *auth.Grant) error {
	var s sealedGrant
	if err := json.Unmarshal(plain, &s); err != nil {
		return err
	}
	g.Identity.Issuer, g.Identity.Name, g.Identity.Email, g.Identity.Picture = s.Issuer, s.Name, s.Email, s.Picture
	g.Identity.Claims, g.Kept = s.Claims, s.Kept
	g.Tokens = auth.TokenSet{
		Access: auth.Secret(s.Access), Refresh: auth.Secret(s.Refresh), ID: auth.Secret(s.ID), Type: s.Type, Scope: s.Scope,
		IssuedAt: s.IssuedAt, ExpiresAt: s.ExpiresAt, Assumed: s.Assumed,
		RefreshExpiresAt: s.RefreshExpiresAt, RefreshNeverExpires: s.RefreshNeverExpires, ClientAuth: s.ClientAuth,
	}
	g.Pending, g.PendingFor = auth.Secret(s.Pending), auth.Secret(s.PendingFor)
	g.Former = auth.Former{Access: s.FormerAccess, Refresh: s.FormerRefresh, ID: s.FormerID}
	g.Standing = s.Standing
	return nil
}

// share gives to what Open would fill from the same blob as it has filled from. Nobody changes the maps of either.
func share(from, to *auth.Grant) {
	subject := to.Identity
	to.Identity = from.Identity
	to.Identity.Provider, to.Identity.Subject = subject.Provider, subject.Subject
	to.Kept, to.Tokens, to.Former, to.Standing = from.Kept, from.Tokens, from.Former, from.Standing
	to.Pending, to.PendingFor = from.Pending, from.PendingFor
}

// asSealed makes the times of a grant what they are once it has been sealed and opened.
func asSealed(g *auth.Grant) {
	for _, t := range []*time.Time{
		&g.Tokens.IssuedAt, &g.Tokens.ExpiresAt, &g.Tokens.RefreshExpiresAt, &g.Standing.TriedAt, &g.Standing.NextTry, &g.Standing.AutomaticAt,
	} {
		*t = t.UTC().Round(0) // without the monotonic reading
	}
}
