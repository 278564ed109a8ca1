package devprovider

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"html/template"
	"net/http"
	"net/url"
	"strings"

	"github.com/zitadel/oidc/v3/pkg/oidc"
)

// showSignIn is the sign-in page.
func (p *Provider) showSignIn(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("authRequestID")
	if _, err := p.op.Storage().AuthRequestByID(r.Context(), id); err != nil {
		p.tooLate(w, r)
		return
	}
	page := SignInPage{Action: p.path + "/login", AuthRequestID: id, ClientName: "Keyturn", People: people()}
	w.Header().Set("Cache-Control", "no-store")
	if p.config.SignInPage != nil {
		p.config.SignInPage(w, r, page)
		return
	}
	plain(w, http.StatusOK, `<form method="post" action="{{.Action}}"><input type="hidden" name="authRequestID" value="{{.AuthRequestID}}">`+
		`{{range .People}}<button name="user" value="{{.Name}}">{{.Label}}</button>{{end}}</form>`, page)
}

// signIn takes the person's choice and goes on to the client.
func (p *Provider) signIn(w http.ResponseWriter, r *http.Request) {
	person, known := personNamed(r.PostFormValue("user"))
	if !known {
		p.errorPage(w, r, http.StatusBadRequest, "Nobody has that name here.", "Go back and choose one of the people on the page.")
		return
	}
	id := r.PostFormValue("authRequestID")
	ok, err := p.op.Storage().(*storage).signedIn(r.Context(), id, person.Name)
	if err != nil {
		p.config.Log.ErrorContext(r.Context(), "development provider: sign-in not stored", "error", err)
		p.errorPage(w, r, http.StatusServiceUnavailable, "The sign-in could not be stored.", "Try again in a moment.")
		return
	}
	if !ok {
		p.tooLate(w, r)
		return
	}
	http.Redirect(w, r, p.config.Issuer+"/authorize/callback?id="+url.QueryEscape(id), http.StatusSeeOther)
}

func (p *Provider) tooLate(w http.ResponseWriter, r *http.Request) {
	p.errorPage(w, r, http.StatusBadRequest, "This sign-in has expired or was finished already.", "Start again from the application.")
}

func (p *Provider) signedOut(w http.ResponseWriter, r *http.Request) {
	if p.config.SignedOutPage != nil {
		p.config.SignedOutPage(w, r)
		return
	}
	plain(w, http.StatusOK, `<p>Signed out.</p>`, nil)
}

func (p *Provider) errorPage(w http.ResponseWriter, r *http.Request, status int, title, detail string) {
	if p.config.ErrorPage != nil {
		p.config.ErrorPage(w, r, status, title, detail)
		return
	}
	plain(w, status, `<h1>{{.Title}}</h1><p>{{.Detail}}</p>`, struct{ Title, Detail string }{title, detail})
}

// plain writes a page without looks, for when nobody gave better ones.
func plain(w http.ResponseWriter, status int, text string, data any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = template.Must(template.New("page").Parse(text)).Execute(w, data)
}

func writeJSON(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}

// refusingInPages makes pages, with op's words in them, of refusals that op writes for programs where browsers come.
func (p *Provider) refusingInPages(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		held := &heldRefusal{ResponseWriter: w}
		next.ServeHTTP(held, r)
		if held.status != 0 {
			p.errorPage(w, r, held.status, "The dev provider refuses this request.",
				"It says: “"+strings.TrimSuffix(held.words(), ".")+".” Start again from the application; if it stays so, look at the application's settings.")
		}
	})
}

// heldRefusal holds an error answer back, unless it is a page.
type heldRefusal struct {
	http.ResponseWriter
	status int // of what is held back; 0: nothing
	body   bytes.Buffer
}

// WriteHeader implements http.ResponseWriter.
func (h *heldRefusal) WriteHeader(status int) {
	if status >= http.StatusBadRequest && !strings.HasPrefix(h.Header().Get("Content-Type"), "text/html") {
		h.status = status
		return
	}
	h.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (h *heldRefusal) Write(b []byte) (int, error) {
	if h.status != 0 {
		return h.body.Write(b)
	}
	return h.ResponseWriter.Write(b)
}

// words are what the refusal says: a text, or the description of an OAuth error.
func (h *heldRefusal) words() string {
	var refusal oidc.Error
	if err := json.Unmarshal(h.body.Bytes(), &refusal); err == nil {
		return cmp.Or(refusal.Description, string(refusal.ErrorType))
	}
	return strings.TrimSpace(h.body.String())
}

type audienceKey struct{}

// withAudience hands the audience of a client credentials request to the storage, which op does not.
func withAudience(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err == nil {
			r = r.WithContext(context.WithValue(r.Context(), audienceKey{}, r.PostForm.Get("audience")))
		}
		next.ServeHTTP(w, r)
	})
}

// forClients is an endpoint of clients, which they use by POST (RFC 6749 section 3.2, RFC 7009 section 2.1, RFC 7662 section 2.1).
func forClients(next http.Handler) http.Handler {
	next = asUnauthorized(next, `Basic realm="development provider"`) // RFC 6749 section 5.2
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "This endpoint takes POST requests.", http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// bearer is what userinfo asks for.
const bearer = `Bearer error="invalid_token", error_description="the access token is missing, expired or revoked"`

// asUnauthorized has a 401 say what is asked for, and makes one of op's 403 for a dead access token (RFC 6750 section 3.1).
func asUnauthorized(next http.Handler, challenge string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(unauthorized{w, challenge}, r) })
}

type unauthorized struct {
	http.ResponseWriter
	challenge string
}

// WriteHeader implements http.ResponseWriter.
func (u unauthorized) WriteHeader(status int) {
	if status == http.StatusForbidden || status == http.StatusUnauthorized {
		status = http.StatusUnauthorized
		u.Header().Set("WWW-Authenticate", u.challenge)
	}
	u.ResponseWriter.WriteHeader(status)
}
