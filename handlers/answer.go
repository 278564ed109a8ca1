package handlers

import (
	"net/http"
	"net/url"
	"slices"

	"keyturn/auth/provider"
)

// maxAnswer bounds an authorization answer: codes are long at some providers, and it has to fit into a URL.
const maxAnswer = 16 << 10

// answerParams are the parameters of any provider's answer.
var answerParams = []string{"code", "state", "iss", "error", "error_description", "error_uri", "session_state"}

// readAnswer reads an authorization answer (RFC 6749 section 4.1.2, RFC 9207) and nothing else that may come with it. It is
// in the query or in the body, says each thing once, and holds no tokens: those come from the token endpoint. A provider may say things
// of its own there.
func readAnswer(r *http.Request, p provider.Provider) (url.Values, error) {
	bad := func(code, title string) error {
		return problem(http.StatusBadRequest, code, title, "Nothing was signed in. Sign in again.")
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err == nil && r.Method == http.MethodPost {
		err = r.ParseForm()
	}
	if err != nil {
		return nil, problem(http.StatusBadRequest, "bad_form", "The provider's answer could not be read.", "Sign in again.").because(err)
	}
	sent := query
	if r.Method == http.MethodPost {
		if sent = r.PostForm; len(query) > 0 {
			return nil, bad("duplicate_parameter", "The provider's answer comes in two places.")
		}
	}
	own, hasOwn := p.(provider.OwnAnswer)
	answer, size := url.Values{}, 0
	for name, values := range sent {
		switch {
		case name == onceMore, !slices.Contains(answerParams, name) && (!hasOwn || !own.Answers(name)):
		case len(values) > 1:
			return nil, bad("duplicate_parameter", "The provider's answer says "+cut(name, 60)+" twice.")
		default:
			answer[name], size = values, size+len(name)+len(values[0])
		}
	}
	switch {
	case size > maxAnswer:
		return nil, bad("long_answer", "The provider's answer is too long.")
	case sent.Has("access_token"), sent.Has("id_token"), sent.Has("refresh_token"):
		return nil, bad("unasked_tokens", "The provider's answer holds tokens, which Keyturn did not ask for in this place.")
	}
	return answer, nil
}
