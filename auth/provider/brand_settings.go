package provider

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
)

// SettingError says which setting of a provider is wrong. Its texts hold no secret.
type SettingError struct {
	Key    string // as in the file
	Value  string // "": it is not set, or not to be shown
	Reason string // why it is not taken and what is allowed; continues a sentence that begins with the value
}

// Error implements error.
func (e *SettingError) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("the setting %q %s", e.Key, e.Reason)
	}
	return fmt.Sprintf("the setting %q: %q %s", e.Key, e.Value, e.Reason)
}

// ExtraSettings are the names of all settings that only some brands have, sorted.
func ExtraSettings() []string {
	var names []string
	for _, entry := range brands() {
		names = append(append(names, entry.needs...), entry.takes...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// CheckBrand says what is wrong with the settings of a provider that is not the generic one: a *SettingError, or an error
// about its parameters. doubt, if not nil, is about what can be tried and will not work. It makes no call; it reads the brand's
// key file, if there is one.
func CheckBrand(config Config) (doubt *SettingError, err error) {
	entry, err := brandFor(config)
	if err == nil && entry.secret != nil {
		_, err = entry.secret(config)
	}
	if err != nil {
		return nil, err
	}
	return entry.missingSecret(config), nil
}

// missingSecret is not nil where there is no client secret and no sign-in without one.
func (e brandEntry) missingSecret(config Config) *SettingError {
	if config.ClientSecret != "" || e.secret != nil || e.public {
		return nil
	}
	return &SettingError{"client_secret", "", "is not set, and " + e.label + " signs nobody in without one"}
}

// brandFor finds the entry of a provider and checks the provider's settings against it.
func brandFor(config Config) (brandEntry, error) {
	all := brands()
	entry, ok := all[config.Type]
	if !ok {
		return entry, &SettingError{"type", config.Type,
			"is not known; allowed: oidc, " + strings.Join(slices.Sorted(maps.Keys(all)), ", ")}
	}
	if err := entry.checkExtras(config.Extra); err != nil {
		return entry, err
	}
	switch {
	case config.Issuer != "":
		return entry, &SettingError{"issuer", config.Issuer, "is not used by " + entry.label + "; allowed: with type oidc"}
	case config.ClientID == "" && !entry.noClientID:
		return entry, &SettingError{"client_id", "", "is not set; allowed: the client id that " + entry.label + " gave"}
	case config.ClientSecret != "" && entry.secret != nil:
		return entry, &SettingError{"client_secret", "", "is not used by type " + config.Type + "; allowed: " +
			strings.Join(entry.needs, ", ") + ", of which it is made"}
	case entry.make == nil && config.Scopes != nil && !slices.Contains(config.Scopes, oidc.ScopeOpenID):
		return entry, &SettingError{"scopes", strings.Join(config.Scopes, " "), "lacks openid; allowed: scopes with openid among them"}
	}
	return entry, config.checkParams()
}

// checkExtras checks the settings that not every brand has.
func (e brandEntry) checkExtras(set extras) error {
	own := slices.Concat(e.needs, e.takes)
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if !slices.Contains(own, name) {
			return &SettingError{name, set[name], "is not used by " + e.label + "; allowed of such settings: " +
				cmp.Or(strings.Join(own, ", "), "none")}
		}
		if fits, allowed := extraRule(name); set[name] != "" && !fits(set[name]) {
			return &SettingError{name, set[name], "cannot be used; allowed: " + allowed}
		}
	}
	for _, name := range e.needs {
		if set[name] == "" {
			_, allowed := extraRule(name)
			return &SettingError{name, "", "is not set, and " + e.label + " needs it; allowed: " + allowed}
		}
	}
	return nil
}

// extraRule is what a setting may be that becomes part of a URL: nothing that makes another host or path of it. allowed says
// so, continuing "allowed:".
func extraRule(name string) (fits func(value string) bool, allowed string) {
	switch name {
	case "base_url":
		return isAddress, "an https URL such as https://id.example.com, or its host alone"
	case "org_url":
		return func(value string) bool { return isAddress(value) && hostShape.MatchString(host(value)) },
			"the organization's URL without a path, such as https://acme.okta.com"
	case "domain":
		return func(value string) bool { return hostShape.MatchString(host(value)) }, "a host without a path, such as acme.example.com"
	case "tenant":
		return nameShape.MatchString, "the tenant's id, one of its domains, consumers, organizations or common"
	case "region":
		return wordShape.MatchString, "an AWS region such as eu-central-1"
	case "user_pool":
		return wordShape.MatchString, "the user pool's id, such as eu-central-1_AbCdEfGhI"
	case "shop":
		return wordShape.MatchString, "its name before .myshopify.com"
	case "key_file":
		return func(string) bool { return true }, "the path of the .p8 file of a key for Sign in with Apple"
	default: // team_id, key_id, agent_id
		return wordShape.MatchString, "letters, digits, - and _"
	}
}

var (
	wordShape = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	nameShape = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)
	hostShape = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(:[0-9]{1,5})?$`)
	pathShape = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$`)
)

// isAddress says that base makes of the value an encrypted URL of a host, a port and a plain path.
func isAddress(value string) bool {
	u, err := url.Parse(base(value))
	return err == nil && u.Hostname() != "" && strings.Trim(u.Host, hostLetters) == "" && !strings.Contains(u.Host, "..") &&
		u.User == nil && encrypted(u) && pathShape.MatchString(u.EscapedPath()) && !strings.ContainsAny(value, "?#")
}

// encrypted says that nobody on the way can read what is sent there.
func encrypted(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && Loopback(u.Hostname())
}
