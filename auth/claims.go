package auth

import (
	"encoding/json"
	"strconv"
	"strings"
)

// ParseClaims reads a JSON object whose numbers keep their notation.
func ParseClaims(text string) (claims map[string]any, ok bool) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	err := decoder.Decode(&claims)
	return claims, err == nil && claims != nil
}

// Claims are what a provider says about a person, as encoding/json reads them but for one thing: an integer that a float64 would make
// another of, a long identifier perhaps, is a json.Number.
type Claims map[string]any

// UnmarshalJSON implements json.Unmarshaler.
func (c *Claims) UnmarshalJSON(text []byte) error {
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.UseNumber()
	var object map[string]any
	if err := decoder.Decode(&object); err != nil {
		return err
	}
	for name, value := range object {
		object[name] = plain(value)
	}
	*c = object
	return nil
}

// plain is a value of Claims for one whose numbers are json.Number.
func plain(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name, of := range v {
			v[name] = plain(of)
		}
	case []any:
		for i, of := range v {
			v[i] = plain(of)
		}
	case json.Number:
		number, err := v.Float64()
		if integer := !strings.ContainsAny(v.String(), ".eE"); err == nil && (!integer || strconv.FormatFloat(number, 'f', -1, 64) == v.String()) {
			return number
		}
	}
	return value
}

// WithoutSecrets leaves out of claims what has a secret in it, in names as in values: HubSpot's profile repeats the access token, and
// links to a picture may need one. Lists keep the places of what is left.
func WithoutSecrets(claims map[string]any, secrets ...Secret) map[string]any {
	if claims == nil {
		return nil
	}
	kept := map[string]any{}
	for name, value := range claims {
		if value, keep := withoutSecrets(value, secrets); keep && !Holds(name, secrets...) {
			kept[name] = value
		}
	}
	return kept
}

// withoutSecrets is a value of claims without secrets; nil, and keep is false, of text that has one.
func withoutSecrets(value any, secrets []Secret) (clean any, keep bool) {
	switch v := value.(type) {
	case map[string]any:
		return WithoutSecrets(v, secrets...), true
	case []any:
		kept := make([]any, len(v))
		for i, one := range v {
			kept[i], _ = withoutSecrets(one, secrets)
		}
		return kept, true
	case string:
		if Holds(v, secrets...) {
			return nil, false
		}
	}
	return value, true
}
