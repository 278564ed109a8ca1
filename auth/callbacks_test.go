package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
)

// changing is a provider that says these claims at the sign-in, in its id token and by userinfo, and those in the id tokens of renewals.
func changing(atSignIn, byUserInfo, later map[string]any) func(*scripted.Provider) {
	return func(p *scripted.Provider) {
		p.Claims = func(claims map[string]any, refresh bool) {
			delete(claims, "email")
			if refresh {
				maps.Copy(claims, later)
			} else {
				maps.Copy(claims, atSignIn)
			}
		}
		p.UserInfo = func(w http.ResponseWriter, _ *http.Request) {
			claims := map[string]any{"sub": p.Subject}
			maps.Copy(claims, byUserInfo)
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(claims)
		}
	}
}

// shows checks what the session's user says; nil stands for a claim that it does not hold.
func (h *house) shows(t *testing.T, want map[string]any) {
	t.Helper()
	user := h.config.Callbacks.User(t.Context(), h.config.Log, h.stored(t))
	for claim, value := range want {
		is, _ := json.Marshal(user[claim])
		should, _ := json.Marshal(value)
		if string(is) != string(should) {
			t.Errorf("%s is %s, want %s", claim, is, should)
		}
	}
}

func TestTheUserIsShownAsOneAnswerSays(t *testing.T) {
	t.Parallel()
	type claims = map[string]any
	alice := claims{"email": "alice@corp.example", "email_verified": true, "groups": []string{"admin"}, "role": "owner"}
	phone := claims{"phone_number": "+1", "phone_number_verified": true, "locale": "en"}
	for name, c := range map[string]struct{ signIn, userInfo, later, before, after claims }{
		"everything is new": {
			alice, phone, claims{"email": "eve@else.example", "email_verified": false, "groups": []string{"guest"}},
			alice, claims{"email": "eve@else.example", "email_verified": false, "groups": []string{"guest"}, "role": "owner", "locale": "en"},
		},
		"nobody has verified the new address": {
			alice, phone, claims{"email": "eve@else.example"}, alice,
			claims{"email": "eve@else.example", "email_verified": nil, "groups": []string{"admin"}, "phone_number_verified": true},
		},
		"the address is the same": {alice, phone, claims{"email": "alice@corp.example"}, alice, alice},
		"a number that nobody has verified": {
			alice, phone, claims{"phone_number": "+2"}, phone, claims{"phone_number": "+2", "phone_number_verified": nil, "email_verified": true},
		},
		"verified is something else": {
			alice, nil, claims{"email_verified": false}, alice, claims{"email": "alice@corp.example", "email_verified": nil},
		},
		"there is no address any more": {
			alice, nil, claims{"email": "", "email_verified": false}, alice, claims{"email": "", "email_verified": false},
		},
		"nothing is said": {alice, phone, nil, phone, alice},
		"userinfo has verified another address": {
			claims{"email": "eve@else.example"}, alice, nil, claims{"email": "eve@else.example", "email_verified": nil, "role": "owner"}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, options{idp: changing(c.signIn, c.userInfo, c.later)})
			h.shows(t, c.before)
			h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
			h.shows(t, c.after)
		})
	}
}

// An identifier may be longer than a float64 is exact.
func TestLongNumbersAreShownAsTheyAreSaid(t *testing.T) {
	t.Parallel()
	const long = 12345678901234567
	said := map[string]any{"employee_id": long, "member": map[string]any{"of": []int{1, long}}, "height": 1.85, "floor": -3}
	h := newHouse(t, options{idp: changing(said, map[string]any{"badge": long + 2}, map[string]any{"employee_id": long + 4})})
	h.shows(t, said)
	h.shows(t, map[string]any{"badge": long + 2})
	if iat, ok := h.stored(t).Identity.Claims["iat"].(float64); !ok || iat <= 0 {
		t.Errorf("a number that a float64 holds is %T", h.stored(t).Identity.Claims["iat"])
	}
	h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
	h.shows(t, map[string]any{"employee_id": long + 4, "badge": long + 2})
}

// What a program keeps of its own is shown as it is, and not what it keeps of an address that the person has no more.
func TestWhatATokenCallbackKeepsIsItsOwn(t *testing.T) {
	t.Parallel()
	callbacks := auth.DefaultCallbacks()
	callbacks.Token = func(_ context.Context, event auth.TokenEvent) (map[string]any, error) {
		if event.Account == nil {
			return event.Kept, nil
		}
		kept := maps.Clone(event.Profile)
		kept["tenant"] = 7
		return kept, nil
	}
	h := newHouse(t, options{callbacks: &callbacks, idp: changing(
		map[string]any{"email": "alice@corp.example", "email_verified": true, "groups": []string{"admin"}, "phone_number": "+1"}, nil,
		map[string]any{"email": "eve@else.example", "groups": []string{"guest"}, "phone_number": "+2", "phone_number_verified": true},
	)})
	h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
	h.shows(t, map[string]any{
		"tenant": 7, "groups": []string{"admin"}, "email": "eve@else.example", "email_verified": nil,
		"phone_number": "+1", "phone_number_verified": nil,
	})
}

// The keys of a renewal's id token may come late: then it is the look at the grant that changes what is shown.
func TestWhatIsVerifiedLateIsShown(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{idp: changing(
		map[string]any{"email": "alice@corp.example", "email_verified": true}, nil,
		map[string]any{"email": "eve@else.example", "groups": []string{"guest"}},
	)})
	release := holdKeys(t, h)
	h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
	h.shows(t, map[string]any{"email": "alice@corp.example", "email_verified": true, "groups": nil})
	release()
	if err := h.rotator.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.shows(t, map[string]any{"email": "eve@else.example", "email_verified": nil, "groups": []string{"guest"}})
}

func TestACallbackThatReturnsWhatIsNoJSONChangesNothing(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]any{"not a number": math.NaN(), "a channel": make(chan int), "a panic": panicking{}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broken := atomic.Bool{}
			says := func(kept map[string]any) map[string]any {
				if broken.Load() {
					return map[string]any{"x": value}
				}
				return kept
			}
			h := newHouse(t, options{callbacks: &auth.Callbacks{
				Token: func(context.Context, auth.TokenEvent) (map[string]any, error) {
					return says(map[string]any{"tenant": 7}), nil
				},
				Session: func(_ context.Context, event auth.SessionEvent) (map[string]any, error) {
					return says(event.Grant.Kept), nil
				},
			}})
			h.shows(t, map[string]any{"tenant": 7, "sub": nil})
			broken.Store(true)
			h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
			h.shows(t, map[string]any{"sub": "alice", "tenant": nil, "x": nil})
			broken.Store(false)
			h.shows(t, map[string]any{"tenant": 7}) // which the renewal has not taken away
			broken.Store(true)
			h.grant = h.signIn(t)
			h.shows(t, map[string]any{"sub": "alice", "x": nil})
			if n := strings.Count(h.log.String(), "callback failed"); n != 4 {
				t.Errorf("the log tells of %d failures:\n%s", n, h.log)
			}
		})
	}
}

// panicking cannot be written as JSON, and not even tried.
type panicking struct{}

// MarshalJSON implements json.Marshaler.
func (panicking) MarshalJSON() ([]byte, error) { panic("not written") }

func TestACallbackThatDoesNotComeBackHoldsNothingUp(t *testing.T) {
	t.Parallel()
	var stuck atomic.Bool
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	callbacks := auth.DefaultCallbacks()
	callbacks.Token = func(_ context.Context, event auth.TokenEvent) (map[string]any, error) {
		if stuck.Load() {
			<-never
		}
		return map[string]any{"tenant": 7}, nil
	}
	h := newHouse(t, options{callbacks: &callbacks, timeout: 2 * time.Second})
	stuck.Store(true)
	h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
	h.shows(t, map[string]any{"tenant": 7})
	stuck.Store(false)
	h.expect(t, h.renew(t), auth.OutcomeRotated, 3)
}

// A renewal may begin while the callback of the one before still runs: what that keeps is there for the next.
func TestWhatASlowCallbackKeepsIsThereForTheNext(t *testing.T) {
	t.Parallel()
	callbacks := auth.DefaultCallbacks()
	callbacks.Token = func(_ context.Context, event auth.TokenEvent) (map[string]any, error) {
		n, _ := event.Kept["n"].(float64)
		if event.Account == nil {
			time.Sleep(500 * time.Millisecond)
		}
		return map[string]any{"n": n + 1}, nil
	}
	h := newHouse(t, options{callbacks: &callbacks})
	h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
	h.expect(t, h.renew(t), auth.OutcomeRotated, 3)
	waitFor(t, "all of them", func() bool { return h.stored(t).Kept["n"] == 3.0 })
}

// Another process may have tried to renew the grant while the callback ran, in vain: what the callback keeps goes into what that left.
func TestWhatACallbackKeepsGoesIntoWhatOthersLeft(t *testing.T) {
	t.Parallel()
	var h *house
	callbacks := auth.DefaultCallbacks()
	callbacks.Token = func(_ context.Context, event auth.TokenEvent) (map[string]any, error) {
		if event.Account == nil {
			h.idp.Change(func() { scriptedBy(says(http.StatusServiceUnavailable, ""))(h.idp) })
			result, err := auth.NewRotator(h.config).Renew(t.Context(), h.grant.ID, auth.TriggerManual, time.Now())
			if err != nil || result.Outcome != auth.OutcomeKept {
				t.Errorf("the other process: %s, %v", result.Outcome, err)
			}
		}
		return map[string]any{"by": string(event.Trigger)}, nil
	}
	h = newHouse(t, options{callbacks: &callbacks})
	h.renew(t)
	if err := h.rotator.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if g := h.stored(t); g.Generation != 2 || g.Standing.Failures != 1 || g.Kept["by"] != "manual" {
		t.Errorf("generation %d, %d failures, keeps %v", g.Generation, g.Standing.Failures, g.Kept)
	}
}

// What a callback is given is its own, also below the top and also when nobody waits for it any more.
func TestACallbackMayChangeWhatItIsGiven(t *testing.T) {
	t.Parallel()
	callbacks := auth.DefaultCallbacks()
	callbacks.Token = func(_ context.Context, event auth.TokenEvent) (map[string]any, error) {
		if event.Account != nil {
			return map[string]any{"roles": map[string]any{"a": 1}}, nil
		}
		roles := event.Kept["roles"].(map[string]any)
		for began := time.Now(); time.Since(began) < time.Second; {
			roles["a"] = len(roles)
			roles[time.Now().String()] = true
		}
		return nil, errors.New("it changes nothing")
	}
	h := newHouse(t, options{callbacks: &callbacks})
	result := h.renew(t)
	for began := time.Now(); time.Since(began) < time.Second/2; {
		if text, _ := json.Marshal(result.Grant.Kept); string(text) != `{"roles":{"a":1}}` {
			t.Fatalf("%s", text)
		}
	}
}

// Who goes away while an answer is made for them, and for others, is no failure of the callback.
func TestACallbackOutlivesTheRequestThatItIsAskedFor(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{idp: changing(map[string]any{"groups": []string{"admin"}}, nil, nil)})
	gone, leave := context.WithCancel(t.Context())
	leave()
	if user := h.config.Callbacks.User(gone, h.config.Log, h.stored(t)); user["groups"] == nil || strings.Contains(h.log.String(), "callback failed") {
		t.Errorf("%v", user)
	}
}
