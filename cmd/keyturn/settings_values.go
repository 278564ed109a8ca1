package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"keyturn/auth"
	"keyturn/auth/provider"
)

// value is what a source says about a setting.
type value struct {
	text   string
	items  []string // of a YAML list; nil: the text counts
	where  string   // what to call the setting in an error
	secret bool     // the text is never shown
}

// empty says whether the value counts as not set.
func (v value) empty() bool { return strings.TrimSpace(v.text) == "" && len(v.items) == 0 }

// refused is the one line that says why the value is not taken: where, what, and from err why and what is allowed.
func (v value) refused(err error) error {
	if v.secret {
		return fmt.Errorf("%s: %w", v.where, err)
	}
	text := v.text
	if len(v.items) > 0 {
		text = strings.Join(v.items, " ")
	}
	return fmt.Errorf("%s: %s %w", v.where, shown(text), err)
}

// field stores one setting and shows it. The errors of set continue a sentence that begins with the value.
type field struct {
	set    func(value) error
	show   func() string // without secrets
	list   bool          // a YAML list is allowed
	toggle bool          // the flag alone means on
	secret bool          // see value
}

var errControl = errors.New("has a control character in it; allowed: text on one line")

// text stores what check makes of the text; a nil check takes anything on one line.
func text(target *string, check func(string) (string, error)) field {
	return field{
		show: func() string { return *target },
		set: func(v value) (err error) {
			*target = strings.TrimSpace(v.text)
			if strings.ContainsFunc(*target, unicode.IsControl) {
				return errControl
			}
			if check != nil {
				*target, err = check(*target)
			}
			return err
		},
	}
}

// dataDir refuses the path of a file, or below one.
func dataDir(path string) (string, error) {
	if info, err := os.Stat(path); err == nil && !info.IsDir() || errors.Is(err, syscall.ENOTDIR) {
		return "", errors.New("is no directory; allowed: a directory, or a path where Keyturn can make one")
	}
	return path, nil
}

// secret takes what RFC 6749 appendix A.2 does, and letters of other alphabets. Spaces are the secret's own.
func secret(target *auth.Secret) field {
	return field{
		secret: true,
		show: func() string {
			if *target == "" {
				return ""
			}
			return "set"
		},
		set: func(v value) error {
			if strings.ContainsFunc(v.text, unicode.IsControl) {
				return errControl
			}
			*target = auth.Secret(v.text)
			return nil
		},
	}
}

// duration takes Go durations from least to most; a least of 1 stands for more than nothing.
func duration(target *time.Duration, least, most time.Duration) field {
	allowed := fmt.Sprintf("allowed: a duration from %s to %s such as 60s or 30m",
		shortDuration(least), shortDuration(most))
	if least == 1 {
		allowed = fmt.Sprintf("allowed: a positive duration such as 60s or 30m, at most %s", shortDuration(most))
	}
	return field{
		show: func() string { return shortDuration(*target) },
		set: func(v value) error {
			text := strings.TrimSpace(v.text)
			d, err := time.ParseDuration(text)
			switch {
			case err != nil && strings.Trim(text, "+-0123456789.") == "" && strings.ContainsAny(text, "0123456789"):
				return errors.New("is not a duration: a unit is missing; " + allowed)
			case err != nil:
				return errors.New("is not a duration; " + allowed)
			case d < least:
				return errors.New("is too short; " + allowed)
			case d > most:
				return errors.New("is too long; " + allowed)
			}
			*target = d
			return nil
		},
	}
}

// count takes a whole number from least to most.
func count(target *int, least, most int) field {
	return field{
		show: func() string { return strconv.Itoa(*target) },
		set: func(v value) error {
			n, err := strconv.Atoi(strings.TrimSpace(v.text))
			if err != nil || n < least || n > most {
				return fmt.Errorf("is not such a number; allowed: a whole number from %d to %d", least, most)
			}
			*target = n
			return nil
		},
	}
}

// shortDuration is Duration.String without the zero units: 30m rather than 30m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func oneOf[T ~string](target *T, allowed ...T) field {
	return field{
		show: func() string { return string(*target) },
		set: func(v value) error {
			chosen := T(strings.TrimSpace(v.text))
			if !slices.Contains(allowed, chosen) {
				names := make([]string, len(allowed))
				for i, a := range allowed {
					names[i] = string(a)
				}
				return errors.New("is not known; allowed: " + either(names))
			}
			*target = chosen
			return nil
		},
	}
}

func grantType(target *auth.GrantType) field {
	return oneOf(target, auth.GrantRefreshToken, auth.GrantClientCredentials)
}

// either joins names as one would say them: a, b or c.
func either(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// toggle is on, off, or left to the program.
type toggle string

// The states of a toggle.
const (
	toggleAuto toggle = "auto"
	toggleOn   toggle = "on"
	toggleOff  toggle = "off"
)

// negatedIf turns on into off and off into on.
func (t toggle) negatedIf(negate bool) toggle {
	switch {
	case negate && t == toggleOn:
		return toggleOff
	case negate && t == toggleOff:
		return toggleOn
	default:
		return t
	}
}

func parseToggle(text string) (toggle, error) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "on", "true", "yes", "1":
		return toggleOn, nil
	case "off", "false", "no", "0":
		return toggleOff, nil
	case "auto":
		return toggleAuto, nil
	default:
		return "", errors.New("is not known; allowed: on, off or auto (also true, false, yes, no, 1 or 0)")
	}
}

func onOff(target *toggle) field {
	return field{
		toggle: true,
		show:   func() string { return string(*target) },
		set: func(v value) (err error) {
			*target, err = parseToggle(v.text)
			return err
		},
	}
}

func defaultScopes() string { return strings.Join(provider.DefaultScopes(), " ") }

// scopes splits a text at spaces and commas, and the items of a list at spaces only: a comma is a legal character of a
// scope. Repetitions are dropped.
func scopes(target *[]string) field {
	return field{
		list: true,
		show: func() string { return strings.Join(*target, " ") },
		set: func(v value) error {
			all := strings.Fields(strings.Join(v.items, " "))
			if v.items == nil {
				all = strings.Fields(strings.ReplaceAll(v.text, ",", " "))
			}
			var kept []string
			for _, scope := range all {
				if strings.ContainsFunc(scope, notInScope) {
					return errors.New("has a character that no scope may have; allowed: scopes separated by spaces or commas")
				}
				if !slices.Contains(kept, scope) {
					kept = append(kept, scope)
				}
			}
			if len(kept) == 0 {
				return errors.New("names no scope; allowed: scopes separated by spaces or commas")
			}
			*target = kept
			return nil
		},
	}
}

// notInScope says whether r is outside scope-token of RFC 6749 appendix A.4.
func notInScope(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }

// prefixes takes networks, and addresses as networks of one.
func prefixes(target *[]netip.Prefix) field {
	return field{
		list: true,
		show: func() string {
			texts := make([]string, len(*target))
			for i, prefix := range *target {
				texts[i] = prefix.String()
			}
			return strings.Join(texts, " ")
		},
		set: func(v value) error {
			items := v.items
			if items == nil {
				items = strings.Split(v.text, ",")
			}
			var all []netip.Prefix
			for _, text := range strings.Fields(strings.Join(items, " ")) {
				prefix, err := netip.ParsePrefix(text)
				if address, notAddress := netip.ParseAddr(text); notAddress == nil {
					prefix, err = netip.PrefixFrom(address, address.BitLen()), nil
				}
				if prefix.Addr().Is4In6() && prefix.Bits() >= 96 { // requests are said to come from the IPv4 address (RFC 4291 section 2.5.5.2)
					prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
				}
				if err != nil {
					return errors.New("is not a list of networks; allowed: addresses and networks such as 10.0.0.0/8, separated by commas")
				}
				all = append(all, prefix.Masked())
			}
			*target = all
			return nil
		},
	}
}
