package provider

import (
	"cmp"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"

	"keyturn/auth"
)

// discreet is a transport whose errors do not have the credentials for the environment's proxy in them, though a proxy that refuses may
// repeat what it was sent, and net/http tells its words.
type discreet struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (t discreet) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.Transport.RoundTrip(r)
	if err == nil {
		return response, nil
	}
	proxy, unknown := t.Proxy(r)
	if unknown != nil || proxy == nil {
		return nil, err
	}
	if text := auth.Redact(err.Error(), BasicSecrets(proxy.User)...); text != err.Error() {
		return nil, errors.New(text) // whoever unwraps it finds nothing else
	}
	return nil, err
}

// BasicSecrets are what is secret of HTTP Basic credentials (RFC 7617 section 2): the password, or else the user name, for a key may come
// without one; and the two as they are sent. nil has none.
func BasicSecrets(user *url.Userinfo) []auth.Secret {
	if user == nil {
		return nil
	}
	password, _ := user.Password()
	return []auth.Secret{
		auth.Secret(cmp.Or(password, user.Username())),
		auth.Secret(base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))),
	}
}
