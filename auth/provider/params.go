package provider

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
)

// ReservedAuthParams are the parameters of the authorization request that configuration may not set, because Keyturn does.
func ReservedAuthParams() []string {
	return []string{
		"client_id", "client_secret", "code_challenge", "code_challenge_method", "nonce", "redirect_uri", "response_type", "scope", "state",
	}
}

// ReservedTokenParams are the same of token requests.
func ReservedTokenParams() []string {
	return []string{
		"client_assertion", "client_assertion_type", "client_id", "client_secret", "code", "code_verifier", "grant_type", "redirect_uri",
		"refresh_token", "resource", "scope",
	}
}

// checkParams refuses parameters that are not configuration's to set.
func (c Config) checkParams() error {
	for _, list := range []struct {
		key      string
		params   map[string]string
		reserved []string
	}{
		{"auth_params", c.AuthParams, ReservedAuthParams()},
		{"token_params", c.TokenParams, ReservedTokenParams()},
	} {
		for _, name := range slices.Sorted(maps.Keys(list.params)) {
			if slices.Contains(list.reserved, name) {
				return fmt.Errorf("%s: %q cannot be set: Keyturn sets it", list.key, name)
			}
		}
	}
	return nil
}

// withResource adds the resources that the tokens are for to an authorization URL (RFC 8707 section 2).
func (c Config) withResource(target string) (string, error) {
	u, err := url.Parse(target)
	if err != nil || len(c.Resource) == 0 {
		return target, err
	}
	query := u.Query()
	query["resource"] = c.Resource
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// tokenForm adds to a token request what is configured for all of them: the same resources as at sign-in (RFC 8707 section
// 2.2; without them a renewal may bring a token for others), and token_params.
func (c Config) tokenForm(form url.Values) url.Values {
	if len(c.Resource) > 0 {
		form["resource"] = c.Resource
	}
	for name, value := range c.TokenParams {
		form.Set(name, value)
	}
	return form
}
