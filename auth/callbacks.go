package auth

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"time"
)

// TokenEvent is what Callbacks.Token is told.
type TokenEvent struct {
	Trigger Trigger        // empty at sign-in
	Kept    map[string]any // what the grant keeps so far; the callback may change and return it
	Account *TokenSet      // the tokens of the sign-in; nil at renewals
	Profile map[string]any // the provider's claims about the person; nil at renewals
	Grant   *Grant         // as it is now, for reading only
}

// SessionEvent is what Callbacks.Session is told.
type SessionEvent struct {
	User  map[string]any // sub, name, email and picture; the callback may change and return it
	Grant *Grant         // for reading only
}

// Callbacks are the two places where a program that embeds Keyturn has its say. They run on goroutines of their own, possibly many at a
// time, and have 5 s: one that does not heed its context goes on for nothing. A callback that fails, panics, takes longer or returns what
// JSON cannot hold is logged and changes nothing: it never signs anybody out, keeps nobody out, and holds no renewal up.
type Callbacks struct {
	// Token runs at sign-in and after each renewal and returns what the grant keeps beside its tokens. Without one that stays as it is.
	Token func(ctx context.Context, event TokenEvent) (map[string]any, error)
	// Session runs when a session is shown, on a page or by /api/session, but no more than about once a second while nothing
	// changes, and returns its user. Nothing secret belongs there: the answer reaches the browser.
	Session func(ctx context.Context, event SessionEvent) (map[string]any, error)
}

// DefaultCallbacks keep nothing beside the identity. They show its present claims as the session's user, and over them what a Token
// callback of the program's own kept.
func DefaultCallbacks() Callbacks {
	return Callbacks{
		Session: func(_ context.Context, event SessionEvent) (map[string]any, error) {
			user := event.Grant.Identity.Profile()
			if user == nil {
				user = map[string]any{}
			}
			kept := maps.Clone(event.Grant.Kept)
			if email, ok := kept["email"]; ok && event.User["email"] != nil && email != event.User["email"] {
				// The present one is shown, and what was kept of another says nothing about it.
				delete(kept, "email")
				delete(kept, "email_verified")
			}
			if phone, ok := kept["phone_number"]; ok && !reflect.DeepEqual(phone, user["phone_number"]) {
				delete(user, "phone_number_verified")
			}
			maps.Copy(user, kept)
			maps.Copy(user, event.User)
			return user, nil
		},
	}
}

// protocolClaims are of the id token as a message, not of the person: the default profile leaves them out.
var protocolClaims = []string{
	"iss", "aud", "azp", "exp", "iat", "nbf", "auth_time", "nonce", "at_hash", "c_hash", "s_hash", "sid", "jti", "acr", "amr", "client_id",
}

// Profile is the claims about the person.
func (i Identity) Profile() map[string]any {
	profile := maps.Clone(i.Claims)
	for _, name := range protocolClaims {
		delete(profile, name)
	}
	return profile
}

// token runs the Token callback for the grant and stores its answer there.
func (c Callbacks) token(ctx context.Context, log *slog.Logger, event TokenEvent) {
	if c.Token == nil {
		return
	}
	g := event.Grant
	// What it changes, now or later, below the top too, is its own.
	kept, err := copied(g.Kept)
	if err == nil {
		event.Kept, event.Grant = kept, g.apart()
		kept, err = guard(ctx, func(ctx context.Context) (map[string]any, error) { return c.Token(ctx, event) })
	}
	if err != nil {
		log.ErrorContext(ctx, "token callback failed; the grant keeps what it kept", "grant", g.ID, "error", err)
		return
	}
	g.Kept = kept
}

// copied is a copy, as it will be read from the vault.
func copied(object map[string]any) (map[string]any, error) {
	if object == nil {
		return nil, nil
	}
	text, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("no JSON: %w", err)
	}
	var own Claims
	err = json.Unmarshal(text, &own)
	return own, err
}

// apart is the grant for a callback, which may still look at it when nobody waits for that any more.
func (g *Grant) apart() *Grant {
	own := *g
	own.Identity.Claims, own.Kept = maps.Clone(g.Identity.Claims), maps.Clone(g.Kept)
	return &own
}

// User is the session's user as the Session callback decides it.
func (c Callbacks) User(ctx context.Context, log *slog.Logger, g *Grant) map[string]any {
	user := func() map[string]any {
		user := map[string]any{"sub": g.Identity.Subject}
		for name, value := range map[string]string{
			"name": g.Identity.Name, "email": g.Identity.Email, "picture": g.Identity.Picture,
		} {
			if value != "" {
				user[name] = value
			}
		}
		return user
	}
	if c.Session == nil {
		return user()
	}
	event := SessionEvent{User: user(), Grant: g.apart()}
	shown, err := guard(ctx, func(ctx context.Context) (map[string]any, error) { return c.Session(ctx, event) })
	if err != nil {
		log.ErrorContext(ctx, "session callback failed; the session shows the identity only", "grant", g.ID, "error", err)
		return user()
	}
	return shown
}

// callbackTime is how long a callback may take.
const callbackTime = 5 * time.Second

// guard makes an error of whatever a callback does that its result cannot be stored or sent after, and of one that does not come back.
func guard(ctx context.Context, callback func(context.Context) (map[string]any, error)) (map[string]any, error) {
	type outcome struct {
		result map[string]any
		err    error
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callbackTime) // what it says is kept for others, too
	defer cancel()
	ended := make(chan outcome, 1)
	go func() {
		result, err := called(ctx, callback)
		ended <- outcome{result, err}
	}()
	select {
	case o := <-ended:
		return o.result, o.err
	case <-ctx.Done():
		return nil, fmt.Errorf("it has not come back: %w", ctx.Err())
	}
}

// called calls a callback. The result is a copy of what it returns, which it may go on to change.
func called(ctx context.Context, callback func(context.Context) (map[string]any, error)) (result map[string]any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	if result, err = callback(ctx); err != nil {
		return nil, err
	}
	return copied(result)
}
