package scripted

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

func (p *Provider) discovery(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	script, introspects := p.Document, p.Introspect != nil
	p.mu.Unlock()
	document := map[string]any{
		"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
		"userinfo_endpoint": p.URL + "/userinfo", "revocation_endpoint": p.URL + "/revoke",
		"id_token_signing_alg_values_supported": []string{"ES256", "RS256"}, "response_types_supported": []string{"code"},
		"subject_types_supported": []string{"public"}, "token_endpoint_auth_methods_supported": []string{"client_secret_basic"},
	}
	if introspects {
		document["introspection_endpoint"] = p.URL + "/introspect"
	}
	if script != nil {
		script(document)
	}
	answer(w, http.StatusOK, document)
}

func (p *Provider) keys(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	script, public := p.Keys, p.public
	p.mu.Unlock()
	if script != nil {
		script(w, r)
		return
	}
	answer(w, http.StatusOK, public)
}

func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	query := r.URL.Query()
	if p.Asked != nil {
		p.Asked(r.URL.Path, query)
	}
	code := p.name("code")
	p.codes[code] = query
	back, err := url.Parse(query.Get("redirect_uri"))
	if err != nil {
		http.Error(w, "bad redirect_uri", http.StatusBadRequest)
		return
	}
	answer := url.Values{"code": {code}, "state": {query.Get("state")}}
	if p.Authorization != nil {
		p.Authorization(answer, query)
	}
	back.RawQuery = answer.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || !p.isClient(r) {
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	if p.Asked != nil {
		p.Asked(r.URL.Path, r.PostForm)
	}
	if r.PostForm.Get("grant_type") == "authorization_code" {
		p.exchange(w, r.PostForm)
		return
	}
	p.mu.Lock()
	p.tokenCalls++
	p.atOnce++
	p.mostAtOnce = max(p.mostAtOnce, p.atOnce)
	defer func() { p.mu.Lock(); p.atOnce--; p.mu.Unlock() }()
	refresh := r.PostForm.Get("refresh_token")
	p.presented[refresh]++
	script := p.Token
	p.mu.Unlock()
	grant := func() map[string]any { p.mu.Lock(); defer p.mu.Unlock(); return p.renew(refresh) }
	if script != nil && script(w, r, grant) {
		return
	}
	tokens := grant()
	status := http.StatusOK
	if tokens["error"] != nil {
		status = http.StatusBadRequest
	}
	answer(w, status, tokens)
}

func (p *Provider) exchange(w http.ResponseWriter, form url.Values) {
	p.mu.Lock()
	defer p.mu.Unlock()
	request, ok := p.codes[form.Get("code")]
	delete(p.codes, form.Get("code"))
	sum := sha256.Sum256([]byte(form.Get("code_verifier")))
	if !ok || base64.RawURLEncoding.EncodeToString(sum[:]) != request.Get("code_challenge") || request.Get("code_challenge_method") != "S256" {
		answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
		return
	}
	tokens := p.issue(&family{nonce: request.Get("nonce")}, "", false)
	if p.InsistsOnConsent && request.Get("prompt") != "consent" {
		delete(tokens, "refresh_token")
	}
	answer(w, http.StatusOK, tokens)
}

func (p *Provider) userinfo(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.UserInfo != nil {
		p.UserInfo(w, r)
		return
	}
	var access string
	_, _ = fmt.Sscanf(r.Header.Get("Authorization"), "Bearer %s", &access)
	if t := p.access[access]; t == nil || t.family.dead {
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_token"})
		return
	}
	answer(w, http.StatusOK, map[string]any{"sub": p.Subject, "name": "Alice", "locale": "en"})
}

func (p *Provider) revoke(w http.ResponseWriter, r *http.Request) {
	revoked := r.PostFormValue("token")
	p.mu.Lock()
	instead := p.Revocation
	p.mu.Unlock()
	if instead != nil && instead(w) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.isClient(r) {
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	p.revoked = append(p.revoked, revoked)
	if t := p.refresh[revoked]; t != nil {
		t.family.dead = true
	}
	w.WriteHeader(http.StatusOK)
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
