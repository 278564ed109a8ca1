package provider

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// announcesIss is the member that asks for a check of answers (RFC 9207 section 3).
const announcesIss = "authorization_response_iss_parameter_supported"

// optional is the members of the metadata that can be done without, and their types.
var optional = func() map[string]reflect.Type {
	members := map[string]reflect.Type{"device_authorization_endpoint": reflect.TypeFor[string]()} // go-oidc reads it
	for _, field := range reflect.VisibleFields(reflect.TypeFor[metadata]()) {
		name := field.Tag.Get("json")
		if name != "" && !slices.Contains([]string{"issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"}, name) {
			members[name] = field.Type
		}
	}
	return members
}()

// withoutMisfits takes the optional members that are not of their type out of a discovery document, and names them: over one of them
// nobody is kept from signing in. An announcement of iss that does not read as a no stays a yes, so that it leaves no check out.
func withoutMisfits(document []byte) (_ []byte, misfits []string) {
	var members map[string]json.RawMessage
	if json.Unmarshal(document, &members) != nil {
		return document, nil
	}
	for key, value := range members {
		for name, is := range optional {
			if !strings.EqualFold(key, name) || json.Unmarshal(value, reflect.New(is).Interface()) == nil { // as encoding/json takes names
				continue
			}
			misfits = append(misfits, name)
			delete(members, key)
			if name == announcesIss && !strings.EqualFold(string(bytes.Trim(value, `" `)), "false") {
				members[key] = json.RawMessage("true")
			}
		}
	}
	if len(misfits) == 0 {
		return document, nil
	}
	slices.Sort(misfits)
	fit, err := json.Marshal(members)
	if err != nil {
		return document, nil
	}
	return fit, misfits
}
