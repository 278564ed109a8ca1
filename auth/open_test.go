package auth_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
)

// A provider takes a used refresh token again for some seconds only. Whoever asked for the renewal, however fresh the token in use: while
// nobody knows whether the refresh token was used, it is tried again at once, then as tries go that back off, and not when it is due.
func TestWhatMayHaveBeenUsedUpIsTriedAgainSoon(t *testing.T) {
	t.Parallel()
	lose := func(http.ResponseWriter) { panic(http.ErrAbortHandler) }
	status := func(code int) func(http.ResponseWriter) { return func(w http.ResponseWriter) { w.WriteHeader(code) } }
	gateway := func(w http.ResponseWriter) {
		w.WriteHeader(http.StatusGatewayTimeout)
		_, _ = w.Write([]byte(`{"timestamp":"2026-01-01T00:00:00Z","status":504,"error":"Gateway Timeout","path":"/token"}`))
	}
	for name, c := range map[string]struct {
		answers  []func(http.ResponseWriter) // in place of those that the provider gave
		struck   bool                        // and an answer before them that a dead process had
		onDemand bool
		warning  string
	}{
		"two answers that were lost":     {[]func(http.ResponseWriter){lose, lose}, false, false, auth.CodeReplayed},
		"and one of a server in trouble": {[]func(http.ResponseWriter){lose, lose, status(503)}, false, false, auth.CodeReplayed},
		"a gateway's, in its stead":      {[]func(http.ResponseWriter){status(504)}, false, false, ""},
		"one with an error of its own":   {[]func(http.ResponseWriter){gateway}, false, false, ""},
		"a crash, and a server's":        {[]func(http.ResponseWriter){status(503), status(503)}, true, false, auth.CodeReplayedAfterCrash},
		"on demand":                      {[]func(http.ResponseWriter){lose, lose, status(503)}, false, true, auth.CodeReplayed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, options{lifetime: time.Hour, idp: func(p *scripted.Provider) { p.Class, p.Interval = scripted.SameSuccessor, 10*time.Second }})
			if c.struck {
				h.struckInTheMiddle(t)
			}
			var calls atomic.Int32
			h.idp.Change(func() {
				h.idp.Token = func(w http.ResponseWriter, _ *http.Request, grant func() map[string]any) bool {
					n := int(calls.Add(1)) - 1
					if n >= len(c.answers) {
						return false
					}
					grant()
					c.answers[n](w)
					return true
				}
			})
			if !c.struck {
				h.expect(t, h.renew(t), auth.OutcomeKept, 1)
			}
			h.schedule(t, c.onDemand)
			waitFor(t, "the renewal", func() bool { return h.stored(t).Generation == 2 })
			if r := h.history(t)[0]; r.Outcome != auth.OutcomeRotated || r.Warning != c.warning || r.Trigger != auth.TriggerBackground {
				t.Errorf("%s by %s, warning %q", r.Outcome, r.Trigger, r.Warning)
			}
		})
	}
}

// Where a replay ends the access token, too, it waits as long as that is of use, whatever has come since.
func TestWhatMayHaveBeenUsedUpWaitsWhereAReplayEndsAll(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	h := newHouse(t, options{lifetime: time.Hour, onUnknown: auth.RetryAtExpiry, idp: scriptedBy(func(w http.ResponseWriter, r *http.Request, grant func() map[string]any) {
		if calls.Add(1) == 1 {
			cutOff("")(w, r, grant)
		}
		says(503, "")(w, r, grant)
	})})
	h.renew(t)
	h.renew(t)
	if g := h.stored(t); !g.Standing.NextTry.Equal(g.Tokens.ExpiresAt) {
		t.Errorf("after %d failures the next try is at %v, the expiry at %v", g.Standing.Failures, g.Standing.NextTry, g.Tokens.ExpiresAt)
	}
}

// A refusal says what may be behind it.
func TestARefusalAfterAGatewaysAnswerSaysWhatHappened(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	h := newHouse(t, options{idp: scriptedBy(func(w http.ResponseWriter, r *http.Request, grant func() map[string]any) {
		if calls.Add(1) == 1 {
			says(504, "<html>")(w, r, grant)
			return
		}
		oauthError(400, "invalid_grant")(w, r, grant)
	})})
	h.renew(t)
	h.expect(t, h.renew(t), auth.OutcomeRefused, 1)
	if g, r := h.stored(t), h.history(t)[0]; g.Standing.Failure.Replay != auth.CodeReplayed || r.Warning != auth.CodeReplayed {
		t.Errorf("%+v, warning %q", g.Standing.Failure, r.Warning)
	}
}

// A gateway's answer is none that was lost: what is lost after it has its replay, and waits for no expiry.
func TestWhatAGatewayAnswersSpendsNoReplay(t *testing.T) {
	t.Parallel()
	for name, before := range map[string][]int{"two of them": {502, 502}, "and one of the provider": {504, 503}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			h := newHouse(t, options{lifetime: time.Hour, idp: func(p *scripted.Provider) {
				p.Class, p.Interval = scripted.SameSuccessor, 10*time.Second
				p.Token = func(w http.ResponseWriter, r *http.Request, grant func() map[string]any) bool {
					switch n := int(calls.Add(1)) - 1; {
					case n < len(before):
						says(before[n], "")(w, r, grant)
					case n == len(before):
						cutOff("")(w, r, grant)
					default:
						return false
					}
					return true
				}
			}})
			for range before {
				h.expect(t, h.renew(t), auth.OutcomeKept, 1)
				if r := h.history(t)[0]; r.Warning != "" {
					t.Errorf("warning %q of what was presented once", r.Warning)
				}
			}
			h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
			if n := int(calls.Load()); n != len(before)+2 {
				t.Errorf("%d calls, want %d", n, len(before)+2)
			}
		})
	}
}

func TestAGatewaysAnswerIsNotWaitedOutWhereAReplayEndsAll(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{lifetime: time.Hour, onUnknown: auth.RetryAtExpiry, idp: scriptedBy(says(502, "<html>"))})
	h.renew(t)
	if wait := time.Until(h.stored(t).Standing.NextTry); wait > 2*time.Second {
		t.Errorf("next try in %v", wait)
	}
}

// A replay that never left is none: the next is, and it stands open until then.
func TestAReplayThatWasNotSentIsNone(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	h := newHouse(t, options{lifetime: time.Hour})
	h.idp.Change(func() {
		h.idp.Token = func(http.ResponseWriter, *http.Request, func() map[string]any) bool {
			if calls.Add(1) == 1 {
				_ = h.idp.Listener.Close()
				panic(http.ErrAbortHandler)
			}
			return false
		}
	})
	result := h.renew(t)
	if r := h.history(t)[0]; result.Failure.Code != auth.CodeUnreachable || r.Warning != "" || h.rotator.Counters.Snapshot().Replays["work"] != 0 {
		t.Errorf("%s, warning %q, %+v", result.Failure.Code, r.Warning, h.rotator.Counters.Snapshot())
	}
	if st := h.stored(t).Standing; st.Open != auth.CodeReplayed || st.Failure.Replay != "" {
		t.Errorf("%+v", st)
	}
}

// While the provider rests, nobody is promised a try sooner, however fresh the token in use.
func TestWhatStandsOpenIsPromisedNoTryWhileTheProviderRests(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{lifetime: time.Hour, idp: scriptedBy(says(502, ""))})
	ids := append(h.crowd(t, 5), h.grant.ID)
	for _, id := range ids {
		if _, err := h.rotator.Renew(t.Context(), id, auth.TriggerManual, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2 * time.Second) // the back-off of whoever asked first
	for range 4 {
		for _, id := range ids[:2] {
			if _, err := h.rotator.Renew(t.Context(), id, auth.TriggerManual, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if view, err := h.rotator.Look(t.Context(), ids[2]); err != nil || view.State != auth.StateFresh || !view.NextAt.After(time.Now()) {
		t.Errorf("%s, next at %v, %v", view.State, view.NextAt, err)
	}
}
