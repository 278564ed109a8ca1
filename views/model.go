// Package views is what people see: plain structs in, HTML out. No view computes a state or reads storage.
package views

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Person is who is signed in. The strings come from a provider and may hold anything.
type Person struct {
	Name     string // may be empty
	Email    string // may be empty
	Subject  string
	Provider string // label
	Mark     string // tells them from others, in a form
}

// Shown is the best name there is.
func (p Person) Shown() string {
	for _, name := range []string{p.Name, p.Email, p.Subject} {
		if strings.TrimSpace(name) != "" {
			return name
		}
	}
	return "somebody"
}

// Address is the email, unless that is what is shown.
func (p Person) Address() string {
	if p.Email == p.Shown() {
		return ""
	}
	return strings.TrimSpace(p.Email)
}

// Whole tells apart those who have one name.
func (p Person) Whole() string {
	if p.Address() == "" {
		return p.Shown()
	}
	return p.Shown() + ", " + p.Address()
}

// Initial stands in for a picture: those of foreign hosts are not loaded.
func (p Person) Initial() string { return initialOf(p.Shown()) }

func initialOf(name string) string {
	r, _ := utf8.DecodeRuneInString(strings.ToUpper(strings.TrimSpace(name)))
	return string(r)
}

// Problem is what went wrong, in words.
type Problem struct {
	Title  string
	Detail string // may be empty
	Next   string // what happens now, or what to do; may be empty
}

// ProviderButton is one way to sign in.
type ProviderButton struct {
	Name, Label, URL string
	Mark             string // outline of the brand's mark in a box of 24 by 24; empty: its initial stands in
}

// Initial stands in for a mark.
func (p ProviderButton) Initial() string { return initialOf(p.Label) }

// SignInPage is the page of those who are signed out.
type SignInPage struct {
	Providers   []ProviderButton
	Problem     *Problem // why a try failed, or the session has ended
	DevProvider bool
	Ended       bool // the session of whoever comes has ended
	SignedOut   bool // the browser has just signed out

	SignedOutThere bool // and comes back from signing out at the provider
}

func (p SignInPage) title() string {
	if p.Problem != nil && !p.Ended {
		return "Sign-in failed"
	}
	return "Sign in"
}

// DashboardPage is the token dashboard.
type DashboardPage struct {
	GrantID  string // what the page's own requests are about
	Person   Person
	Token    TokenCard
	Grant    GrantFacts
	Timeline Timeline
	History  History
	Claims   int  // that the access token has, its header's included; 0: it says nothing by itself
	CanTry   bool // there is an endpoint to try the token at, or may be
}

// PartPage is a part of the dashboard as a page of its own.
type PartPage struct {
	GrantID string // as of the dashboard
	Person  Person
	Title   string
	Place   string // id of the element whose content it is, also on the dashboard; empty: none is swapped
}

// TokenCard is the present access token. Times are absolute; Now lets the browser correct its clock.
type TokenCard struct {
	State         string // fresh, due, expired or needs_sign_in
	Now           time.Time
	IssuedAt      time.Time
	ExpiresAt     time.Time
	ExpiryNote    string    // where the expiry is not what the provider says; may be empty
	DueAt         time.Time // zero: never automatically
	Generation    int64
	Renewable     bool
	NextRenewalAt time.Time // zero: never
	Result        *Result   // what came of a click, or why the latest renewal failed, until one succeeds
	NoToken       string    // why there is no token, only the sign-in; empty: there is one
	SignInURL     string    // where to sign in again, when that is what helps
	Renewing      bool      // a renewal runs beside this page
	AskAt         time.Time // when the page should ask again by itself; zero: never
	Version       string    // ascends with everything that a renewal changes
	Since         string    // the oldest renewal that the page shows
}

// Result is what came of a renewal.
type Result struct {
	OK    bool      `json:"ok"`
	Text  string    `json:"text"`
	Until time.Time `json:"until,omitzero"` // expiry of what it brought
	But   string    `json:"but,omitempty"`  // what was odd about it, as the end of a sentence

	// Of a failure:
	Whose     string    `json:"whose,omitempty"`      // matter it is: provider, operator, you or keyturn
	Kept      bool      `json:"kept,omitempty"`       // the token before stays in use
	SignIn    bool      `json:"sign_in,omitempty"`    // a new sign-in helps
	NextTryAt time.Time `json:"next,omitzero"`        // zero: never
	OnRequest bool      `json:"on_request,omitempty"` // nobody tries before a request comes
}

// but ends the sentence with what was odd, if anything was.
func (r Result) but() string {
	if r.But == "" {
		return ""
	}
	return "; " + r.But + "."
}

// GrantFacts is what is known about the sign-in.
type GrantFacts struct {
	SignedInAt, SessionEndsAt time.Time
	SessionIdle               time.Duration // the session ends when it is unused for so long; zero: only at its end
	Provider, Issuer          string
	Scope                     []string
	FormerScope               []string // nil: as the scope is
	RefreshExpiresAt          time.Time
	RefreshGiven              bool // there is a refresh token
	RefreshNeverExpires       bool
}

// History is the renewals that a page shows.
type History struct {
	Recent []HistoryRow // newest first
	Since  string       // id of the oldest of them; 0: all
	Before string       // id before which there are more; empty: there are none
	Reset  bool         // older ones are kept no more
}

// HistoryRow is one renewal. OldToken and NewToken are fingerprints.
type HistoryRow struct {
	ID                   int64
	At                   time.Time
	Generation           int64
	Trigger, Outcome     string
	Duration             time.Duration
	ErrorCode, Warning   string
	Means                string // the error code in a sentence; may be empty
	Warns                string // the warning in words
	OldToken, NewToken   string
	Shared               int // how many other requests waited for it
	OldExpiry, NewExpiry time.Time
}

// fewSessions are shown at once; the others on demand.
const fewSessions = 5

// SessionRow is one of a person's sessions.
type SessionRow struct {
	ID                 string // of its grant
	Browser, Address   string
	Mobile, This       bool
	SignedInAt, SeenAt time.Time
}

// ErrorPage is a page that says what went wrong.
type ErrorPage struct {
	Status      int
	Problem     Problem
	Action      string // where to go from here
	ActionLabel string
}

// SigningOutPage is where a sign-out goes on.
type SigningOutPage struct {
	Label string // of the provider
	URL   string // its end of session
}

// DevSignInPage is the sign-in page of the embedded provider.
type DevSignInPage struct {
	Action        string
	AuthRequestID string
	ClientName    string
	People        []DevPerson
}

// DevPerson is somebody who can sign in at the embedded provider.
type DevPerson struct{ Name, Label, Email string }

// badge is how a state looks: a word and a shape, so that colour is never alone.
type badge struct{ shape, word string }

func badgeOf(state string) badge {
	switch state {
	case "fresh":
		return badge{"●", "Fresh"}
	case "due":
		return badge{"◐", "Due"}
	case "expired":
		return badge{"○", "Expired"}
	default:
		return badge{"⚑", "Needs sign-in"}
	}
}

// whoseWords says to whom a problem belongs.
func whoseWords(whose string) string {
	switch whose {
	case "provider":
		return "The provider's matter"
	case "operator":
		return "The operator's matter, not your doing"
	case "keyturn":
		return "Keyturn's matter"
	default:
		return "For you to do"
	}
}

// countdown is the time left as the page shows it before the script takes over.
func countdown(left time.Duration) string {
	if left < 0 {
		left = 0
	}
	s := int64(left / time.Second)
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// countdownSize is the class of a countdown that is long at its longest: its figures keep their size as long as the token lives.
func countdownSize(t TokenCard) string {
	switch n := len(countdown(t.ExpiresAt.Sub(t.IssuedAt))); {
	case n > len("99:59:59"):
		return "longest"
	case n > len("59:59"):
		return "long"
	default:
		return ""
	}
}

// ringOffset is how much of the ring is empty, out of 100.
func ringOffset(t TokenCard) string {
	whole := t.ExpiresAt.Sub(t.IssuedAt)
	if whole <= 0 {
		return "100"
	}
	gone := 1 - float64(t.ExpiresAt.Sub(t.Now))/float64(whole)
	return strconv.FormatFloat(100*min(1, max(0, gone)), 'f', 1, 64)
}

// dated is a time with its day, and with its year where that is not plain at now.
func dated(t, now time.Time) string {
	if t.Sub(now).Abs() > 300*24*time.Hour {
		return t.UTC().Format("2 Jan 2006 15:04:05")
	}
	return t.UTC().Format("2 Jan 15:04:05")
}

func sameDay(one, other time.Time) bool {
	return one.UTC().Format(time.DateOnly) == other.UTC().Format(time.DateOnly)
}

// inFull is a time as one reads it who asks for it whole.
func inFull(t time.Time) string { return t.UTC().Format("Mon 2 Jan 2006 15:04:05") + " UTC" }

func exact(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// exactOrEmpty is for data attributes that the script reads, which knows milliseconds.
func exactOrEmpty(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.999Z07:00")
}

// Brief writes a duration with the unit that matters.
func Brief(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "<1 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	default:
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
}

// scopeChip is one scope, and whether the latest renewal brought or took it.
type scopeChip struct{ word, change string }

const (
	mostChips  = 16 // that are shown at once, if their names are no longer than chipsRoom together
	leastChips = 4
	chipsRoom  = 220 // characters
	chipRunes  = 200 // of a scope's name: any real one whole, as its end may be all that tells it from another
)

func (c scopeChip) text() string { return cutTo(c.word, chipRunes) }

// scopeChips are the scopes now and those that went, as many as are shown at once, and the rest. former nil: as they were.
func scopeChips(words, former []string) (shown, more []scopeChip) {
	var all []scopeChip
	for _, word := range words {
		c := scopeChip{word: word}
		if former != nil && !slices.Contains(former, word) {
			c.change = "new"
		}
		all = append(all, c)
	}
	for _, word := range former {
		if !slices.Contains(words, word) {
			all = append(all, scopeChip{word, "gone"})
		}
	}
	n, room := 0, chipsRoom
	for n < min(len(all), mostChips) && (n < leastChips || room >= 0) {
		room -= utf8.RuneCountInString(all[n].text())
		n++
	}
	return all[:n], all[n:]
}

func number(n int64) string { return strconv.FormatInt(n, 10) }
