package views

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tokenKinds are what the inspector looks into, in the order of its tabs.
func tokenKinds() []string { return []string{"access", "id", "refresh"} }

var kindNames = map[string]string{"access": "Access token", "id": "ID token", "refresh": "Refresh token"}

// TokenPanel is one token as the inspector shows it. The token itself is in it only when it was revealed.
type TokenPanel struct {
	Kind        string // access, id or refresh
	Generation  int64
	Fingerprint string
	Length      int // characters; 0: there is no such token
	Withheld    bool
	Revealed    string

	JWT           bool // withheld, nothing else of it is known here
	Encrypted     bool // only the header can be read
	Header        []Claim
	Claims        []Claim
	CanIntrospect bool
	Introspection *Introspection
	Signature     *Signature // nil: it is checked later, by itself
	FormerKnown   bool       // changes against the generation before are marked
}

// Signature is whether a token's signature is right.
type Signature struct {
	State string // good, bad, or unknown
	Text  string
}

// Introspection is what the provider said of a token (RFC 7662), or why it said nothing.
type Introspection struct {
	Generation int64 // of the token that it is about
	Claims     []Claim
	Error      string
	Whose      string // whose matter that is
}

// said is the answer in a sentence, for those who hear it: its times count on, and would be read out each second.
func (i Introspection) said() string {
	if i.Error != "" {
		return whoseWords(i.Whose) + ". " + i.Error
	}
	for _, c := range i.Claims {
		if c.Name == "active" && strings.Trim(c.Value, `"`) == "true" {
			return "The provider says: active"
		}
	}
	return "The provider says: not active"
}

// Claim is one member of a JSON object, ready to be shown.
type Claim struct {
	Name   string
	Value  string
	At     time.Time // of a claim that is a time
	Change string    // "", added, changed or removed, against the generation before
	Former string    // the value before
	Means  string    // a known claim in a few words
}

const (
	maxValue  = 16 << 10 // characters of one value that are shown
	longValue = 1 << 10  // bytes of one that gets a frame of its own
)

// timeClaims are NumericDates (RFC 7519 section 2).
var timeClaims = []string{"exp", "nbf", "iat", "auth_time", "updated_at", "rat"}

// ClaimsOf makes rows of a JSON object, the known ones first, and marks what differs from the former one; nil: nothing to
// compare with.
func ClaimsOf(claims, former map[string]any) []Claim {
	names := slices.Collect(maps.Keys(claims))
	for name := range former {
		if _, ok := claims[name]; !ok {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		if rankA, rankB := rankOf(a), rankOf(b); rankA != rankB {
			return rankA - rankB
		}
		return strings.Compare(a, b)
	})
	rows := make([]Claim, 0, len(names))
	for _, name := range names {
		value, present := claims[name]
		before, had := former[name]
		row := Claim{Name: cutTo(name, 200), Means: meaningOf(name), Value: valueOf(value), At: timeOf(name, value)}
		switch {
		case former == nil:
		case !present:
			row.Change, row.Value = "removed", valueOf(before)
		case !had:
			row.Change = "added"
		case valueOf(before) != row.Value:
			row.Change, row.Former = "changed", valueOf(before)
		}
		rows = append(rows, row)
	}
	return rows
}

// HeaderOf makes rows of a token's header.
func HeaderOf(header map[string]any, encrypted bool) []Claim {
	rows := ClaimsOf(header, nil)
	for i, row := range rows {
		if means := encryptedMeanings[row.Name]; encrypted && means != "" {
			rows[i].Means = means
		}
	}
	return rows
}

func rankOf(name string) int {
	for i, m := range meanings {
		if m.name == name {
			return i
		}
	}
	return len(meanings)
}

func meaningOf(name string) string {
	for _, m := range meanings {
		if m.name == name {
			return m.text
		}
	}
	return ""
}

func valueOf(value any) string {
	switch v := value.(type) {
	case string:
		shown := cutTo(v, maxValue)
		if strings.TrimSpace(v) == "" || json.Valid([]byte(v)) { // it would read as a value of another type, or as none
			shown = jsonOf(shown, "")
		}
		return visible(shown)
	case json.Number:
		return v.String()
	case nil:
		return "null"
	default:
		text := jsonOf(v, "")
		if len(text) > 60 {
			text = jsonOf(v, "  ")
		}
		return visible(cutTo(text, maxValue))
	}
}

// visible has characters that cannot be seen, or that turn others around, stand there by their names.
func visible(text string) string {
	odd := func(c rune) bool {
		return c < ' ' && c != '\n' && c != '\t' || c >= 0x7f && c < 0xa0 || c == 0x200b || c == 0x200e || c == 0x200f || c == 0x061c ||
			c == 0xad || c >= 0x2028 && c <= 0x202e || c >= 0x2060 && c <= 0x2069 || c == 0xfeff || c >= 0xe0000 && c <= 0xe007f
	}
	if !strings.ContainsFunc(text, odd) {
		return text
	}
	var shown strings.Builder
	for _, c := range text {
		if odd(c) {
			fmt.Fprintf(&shown, "⟨U+%04X⟩", c)
		} else {
			shown.WriteRune(c)
		}
	}
	return shown.String()
}

// jsonOf is a value as JSON, without the escapes that it would need within a script.
func jsonOf(value any, indent string) string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	if encoder.Encode(value) != nil {
		return "?"
	}
	return strings.TrimSuffix(text.String(), "\n")
}

func timeOf(name string, value any) time.Time {
	number, ok := value.(json.Number)
	if !ok || !slices.Contains(timeClaims, name) {
		return time.Time{}
	}
	seconds, err := number.Float64()
	if err != nil || math.IsNaN(seconds) || seconds <= 0 || seconds > math.MaxInt32*8 {
		return time.Time{}
	}
	return time.UnixMilli(int64(seconds * 1000)).UTC()
}

// cutTo leaves most characters of a text.
func cutTo(text string, most int) string {
	for i := range text {
		if most--; most < 0 {
			return text[:i] + "…"
		}
	}
	return text
}

// sort of a token in a few words, with what its header says.
func (p TokenPanel) sort() string {
	header := func(name string) string {
		for _, c := range p.Header {
			if c.Name == name {
				return cutTo(c.Value, 60)
			}
		}
		return ""
	}
	switch {
	case p.Encrypted && p.Withheld:
		return "Encrypted JWT"
	case p.Encrypted:
		return "Encrypted JWT, " + header("alg")
	case p.JWT && p.Withheld:
		return "JWT"
	case p.JWT:
		words := "JWT, " + header("alg")
		if kid := header("kid"); kid != "" {
			words += ", key " + kid
		}
		return words
	default:
		return "Opaque"
	}
}

func (p TokenPanel) size() string { return strconv.Itoa(p.Length) + " characters" }

// kindWord is a kind of token within a sentence.
func kindWord(kind string) string {
	if kind == "id" {
		return kindNames[kind]
	}
	return strings.ToLower(kindNames[kind])
}

// skeletonRows is how much a panel seems to hold before it is there: as much as it will, so that what is below stays where it is.
func skeletonRows(claims int) int {
	if claims == 0 {
		return 2
	}
	return min(claims, 60) + 5 // what is above them takes as much as five
}

// relative is a time as seen from now: "in 3 min", "2 h ago". Like the countdown, it counts whole seconds.
func relative(t, now time.Time) string {
	if d := t.Sub(now).Truncate(time.Second); d >= time.Second {
		return "in " + lasting(d)
	} else if d <= -time.Second {
		return lasting(-d) + " ago"
	}
	return "now"
}

// ahead is a time that something waits for, as seen from now.
func ahead(t, now time.Time) string {
	if t.Before(now) {
		return "now"
	}
	return relative(t, now)
}

// Exchange is a call of an endpoint and its answer, as it came.
type Exchange struct {
	Method, URL string
	Status      int
	StatusText  string
	Took        time.Duration
	Type        string
	Challenge   string // WWW-Authenticate
	Reason      string // the challenge in words
	Body        string
	Size        int  // bytes of the body as it came
	Cut, Broken bool // there was more; there is more, and it did not come
	Late        bool // nor was it waited for any longer

	Failed string // in two words, where there is no answer to show
	Error  string // why
	Whose  string // whose matter that is; may be empty
}

func (e Exchange) status() string {
	if e.Failed != "" {
		return e.Failed
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", e.Status, e.StatusText))
}

// took is how long the exchange took, and how much came.
func (e Exchange) took() string {
	words := "in " + Brief(e.Took)
	switch {
	case e.Failed == "No answer":
		return "after " + Brief(e.Took)
	case e.Cut:
		return words + ", more than " + size(e.Size)
	case e.Size > 0:
		return words + ", " + size(e.Size)
	default:
		return words
	}
}

// size writes a number of bytes.
func size(n int) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%d KB", (n+1<<9)>>10)
}
