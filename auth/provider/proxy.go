package provider

import (
	"encoding/base64"
	"errors"
	"net/http"

	"keyturn/auth"
)

// discreet is a transport whose errors do not have the password of the environment's proxy in them, though a proxy that refuses may repeat
// what it was sent, and net/http tells its words.
type discreet struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (t discreet) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.Transport.RoundTrip(r)
	if err == nil {
		return response, nil
	}
	proxy, unknown := t.Proxy(r)
	if unknown != nil || proxy == nil || proxy.User == nil {
		return nil, err
	}
	password, _ := proxy.User.Password()
	basic := base64.StdEncoding.EncodeToString([]byte(proxy.User.Username() + ":" + password))
	if text := auth.Redact(err.Error(), auth.Secret(password), auth.Secret(basic)); text != err.Error() {
		return nil, errors.New(text) // whoever unwraps it finds nothing else
	}
	return nil, err
}
