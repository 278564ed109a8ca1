package main

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/auth/tokenendpoint"
)

// ProviderSettings is one provider that people may sign in with. It is complete: what was not set holds its default,
// but scopes, and a brand's label, are left to whoever knows what the provider takes.
type ProviderSettings struct {
	Name         string // in URLs: [a-z0-9-]+
	Type         string // oidc or the name of a brand
	Label        string // on the sign-in page; of a brand empty unless set
	Issuer       string // of oidc never empty
	ClientID     string
	ClientSecret auth.Secret              // empty: a public client
	ClientAuth   tokenendpoint.AuthMethod // empty: from discovery
	ClientKey    clientKey                // for private_key_jwt
	Scopes       []string                 // nil unless set
	Audience     string                   // sent as audience
	Resource     []string                 // sent as resource, RFC 8707
	AuthParams   map[string]string        // added to the authorization request
	TokenParams  map[string]string        // added to token requests
	Extra        map[string]string        // what a brand needs besides: domain, tenant, org_url …
	GrantType    auth.GrantType

	MaxAge          time.Duration
	Leeway          time.Duration
	AssumedLifetime time.Duration // of an access token that does not say; 0: what is known of the brand
	OnUnknown       auth.OnUnknown

	RenewConcurrency int
}

const (
	typeOIDC     = "oidc"
	genericName  = "oidc" // of the provider that is set without a file
	maxNameBytes = 63
)

// extraKeys are the keys of a provider that only brands have.
func extraKeys() []string { return provider.ExtraSettings() }

// readProviders returns the providers of the file, then the generic one.
func (s *Settings) readProviders(file *configFile) ([]ProviderSettings, error) {
	var all []ProviderSettings
	var places []string
	if file != nil {
		for i, node := range file.providers {
			p, err := s.readProvider(file, node, i+1)
			if err != nil {
				return nil, err
			}
			all, places = append(all, p), append(places, file.at(fmt.Sprintf("providers[%d]", i+1), node))
		}
	}
	generic, ok, err := s.genericProvider()
	if err != nil {
		return nil, err
	}
	if ok {
		all, places = append(all, generic), append(places, s.whereSet("issuer"))
	}
	for i, p := range all {
		first := slices.IndexFunc(all, func(other ProviderSettings) bool { return other.Name == p.Name })
		if first < i {
			return nil, fmt.Errorf("%s: the name %q is taken by %s; allowed: a name of its own",
				places[i], p.Name, places[first])
		}
	}
	return all, nil
}

// genericProvider is the provider that can be set without a file, if it is set.
func (s *Settings) genericProvider() (ProviderSettings, bool, error) {
	if !s.given("issuer") {
		if s.given("client-id") {
			return ProviderSettings{}, false, fmt.Errorf("%s: is set, but no issuer; allowed: both --issuer (KEYTURN_ISSUER) "+
				"and --client-id (KEYTURN_CLIENT_ID), or neither", s.whereSet("client-id"))
		}
		return ProviderSettings{}, false, nil
	}
	p := s.defaults()
	p.Name, p.Type = genericName, typeOIDC
	p.Issuer, p.ClientID, p.ClientSecret = s.Issuer, s.ClientID, s.ClientSecret
	p.ClientAuth, p.ClientKey = s.ClientAuth, s.ClientKey
	p.Audience, p.GrantType = s.APIIdentifier, s.GrantType
	if s.given("scopes") {
		p.Scopes = slices.Clone(s.Scopes)
	}
	err := p.complete(func(key string) string {
		if key == "audience" {
			key = "api-identifier"
		}
		return s.whereSet(strings.ReplaceAll(key, "_", "-"))
	})
	return p, err == nil, err
}

// checkUse warns of settings that have no effect because the provider that they are for is not there, and refuses scopes with which the
// embedded one would sign nobody in.
func (s *Settings) checkUse() error {
	embedded, _ := s.devProviderOn(s.publicURL(nil)) // its error is for those who need a provider
	issuer := s.given("issuer")
	warn := func(why string, names ...string) {
		for _, name := range names {
			if s.given(name) {
				s.Warnings = append(s.Warnings, oneLine(errors.New(s.whereSet(name)+": is not used without "+why)).Error())
			}
		}
	}
	if !issuer {
		warn("an issuer", "client-secret", "client-auth", "client-key-file", "client-key-id", "api-identifier", "grant-type")
	}
	if !embedded {
		warn("the embedded provider", "dev-token-lifetime", "dev-reuse-interval")
	}
	if !issuer && !embedded {
		warn("an issuer", "scopes")
		return nil
	}
	return needOpenID(s.Scopes, s.whereSet("scopes"))
}

// needOpenID refuses scopes that ask for no sign-in (OpenID Connect Core section 3.1.2.1).
func needOpenID(scopes []string, where string) error {
	if slices.Contains(scopes, "openid") {
		return nil
	}
	return value{items: scopes, where: where}.refused(
		errors.New("lacks openid; allowed: scopes with openid among them, such as " + defaultScopes()))
}

// defaults is a provider that has what all of them have until they say otherwise.
func (s *Settings) defaults() ProviderSettings {
	return ProviderSettings{
		Type: typeOIDC, GrantType: auth.GrantRefreshToken, OnUnknown: auth.RetryNow,
		MaxAge: s.MaxAge, Leeway: s.Leeway, RenewConcurrency: s.RenewConcurrency,
	}
}

// fields is the single list of a provider's keys.
func (p *ProviderSettings) fields() map[string]field {
	fields := map[string]field{
		"name":              text(&p.Name, providerName),
		"type":              text(&p.Type, nil),
		"label":             text(&p.Label, nil),
		"issuer":            text(&p.Issuer, issuerURL),
		"client_id":         text(&p.ClientID, nil),
		"client_secret":     secret(&p.ClientSecret),
		"client_auth":       clientAuth(&p.ClientAuth),
		"client_key_file":   text(&p.ClientKey.file, nil),
		"client_key_id":     text(&p.ClientKey.id, nil),
		"scopes":            scopes(&p.Scopes),
		"audience":          text(&p.Audience, nil),
		"resource":          resources(&p.Resource),
		"grant_type":        grantType(&p.GrantType),
		"max_age":           duration(&p.MaxAge, 1, 30*day),
		"leeway":            duration(&p.Leeway, 0, day),
		"assumed_lifetime":  duration(&p.AssumedLifetime, 1, day),
		"renew_concurrency": count(&p.RenewConcurrency, 1, 1000),
		"on_unknown":        oneOf(&p.OnUnknown, auth.RetryNow, auth.RetryAtExpiry),
	}
	for _, key := range extraKeys() {
		fields[key] = extra(&p.Extra, key)
	}
	return fields
}

// extra stores one key of a map that is made when it is first needed.
func extra(target *map[string]string, key string) field {
	var one string
	f := text(&one, nil)
	set := f.set
	f.set = func(v value) error {
		if err := set(v); err != nil {
			return err
		}
		if *target == nil {
			*target = map[string]string{}
		}
		(*target)[key] = one
		return nil
	}
	return f
}

// readProvider reads the entry with the given number, counted from 1.
func (s *Settings) readProvider(file *configFile, node *yaml.Node, number int) (ProviderSettings, error) {
	p := s.defaults()
	fields := p.fields()
	keys := slices.Sorted(maps.Keys(fields)) // sorted, so that of several mistakes always the same is told
	known := append([]string{"auth_params", "token_params", "client_secret_file"}, keys...)
	prefix := fmt.Sprintf("providers[%d].", number)
	nodes, err := file.mapping(node, prefix, nil)
	if err != nil {
		return p, err
	}
	if name := nameOf(nodes); name != "" {
		prefix = "providers." + name + "."
	}
	if nodes, err = file.mapping(node, prefix, known); err != nil {
		return p, err
	}
	for _, key := range keys {
		f := fields[key]
		v, err := file.entry(nodes, prefix, key, f, f.secret)
		if err != nil {
			return p, err
		}
		if v.empty() {
			continue
		}
		if err := f.set(v); err != nil {
			return p, v.refused(err)
		}
	}
	p.AuthParams, err = readParams(file, nodes["auth_params"], prefix+"auth_params", provider.ReservedAuthParams(), "prompt or access_type")
	if err != nil {
		return p, err
	}
	p.TokenParams, err = readParams(file, nodes["token_params"], prefix+"token_params", provider.ReservedTokenParams(), "audience")
	if err != nil {
		return p, err
	}
	where := func(key string) string {
		if at, ok := nodes[key]; ok {
			return file.at(prefix+key, at)
		}
		return file.at(prefix+key, node)
	}
	if err := p.complete(where); err != nil || p.Type == typeOIDC {
		return p, err
	}
	doubt, err := provider.CheckBrand(p.config(""))
	if doubt != nil {
		s.Warnings = append(s.Warnings, oneLine(refusedSetting(doubt, where)).Error())
	}
	return p, refusedSetting(err, where)
}

// refusedSetting is an error of package provider, with the place of the setting that it is about.
func refusedSetting(err error, where func(key string) string) error {
	var wrong *provider.SettingError
	if !errors.As(err, &wrong) {
		return err
	}
	if wrong.Value == "" {
		return fmt.Errorf("%s: %s", where(wrong.Key), wrong.Reason)
	}
	return value{text: wrong.Value, where: where(wrong.Key)}.refused(errors.New(wrong.Reason))
}

// nameOf is what to call an entry in errors: its name, as far as that is one.
func nameOf(nodes map[string]*yaml.Node) string {
	for _, key := range []string{"name", "type"} {
		node, ok := nodes[key]
		if !ok {
			continue
		}
		if node = dereferenced(node); !isNull(node) && node.Value != "" {
			if _, err := providerName(node.Value); err != nil {
				return ""
			}
			return node.Value
		}
	}
	return ""
}

func providerName(text string) (string, error) {
	const allowed = "; allowed: up to 63 of a-z, 0-9 and -, but not signout or initiate"
	switch {
	case text == "" || len(text) > maxNameBytes || strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
		return "", errors.New("is not a provider name" + allowed)
	case text == "signout":
		return "", errors.New("is the path of signing out" + allowed)
	case text == "initiate":
		return "", errors.New("is the path of sign-ins that begin at the provider" + allowed)
	}
	return text, nil
}

// complete fills the defaults that depend on other keys and refuses what does not go together. where names the place
// of a key.
func (p *ProviderSettings) complete(where func(key string) string) error {
	if p.Name == "" {
		name, err := providerName(p.Type)
		if err != nil {
			return value{text: p.Type, where: where("name")}.refused(fmt.Errorf("(the type) %w", err))
		}
		p.Name = name
	}
	if p.Type == typeOIDC {
		if err := p.completeOIDC(where); err != nil {
			return err
		}
	}
	return p.completeClientAuth(where)
}

// config is the provider as package provider knows it, with the callback that it has under a base URL.
func (p *ProviderSettings) config(base string) provider.Config {
	return provider.Config{
		Name: p.Name, Type: p.Type, Label: p.Label, Issuer: p.Issuer, ClientID: p.ClientID, ClientSecret: p.ClientSecret,
		ClientKey: p.ClientKey.key, Resource: p.Resource, TokenParams: p.TokenParams,
		Scopes: p.Scopes, Audience: p.Audience, AuthParams: p.AuthParams, GrantType: p.GrantType, MaxAge: p.MaxAge,
		Leeway: p.Leeway, Concurrency: p.RenewConcurrency, AssumedLifetime: p.AssumedLifetime, OnUnknown: p.OnUnknown,
		ClientAuth: p.ClientAuth, CallbackURL: callbackURL(base, p.Name), Extra: p.Extra,
	}
}

func (p *ProviderSettings) completeOIDC(where func(key string) string) error {
	if p.Issuer == "" {
		return fmt.Errorf("%s: is not set; allowed: the issuer URL, which type oidc needs", where("issuer"))
	}
	if p.ClientID == "" {
		return fmt.Errorf("%s: is not set; allowed: the client id, which an issuer needs", where("client_id"))
	}
	for _, key := range extraKeys() {
		if _, ok := p.Extra[key]; ok {
			return fmt.Errorf("%s: is not used by type oidc; allowed: for brands that need it", where(key))
		}
	}
	if p.AssumedLifetime == 0 {
		p.AssumedLifetime = auth.DefaultAssumedLifetime
	}
	if p.Scopes != nil {
		if err := needOpenID(p.Scopes, where("scopes")); err != nil {
			return err
		}
	}
	if u, err := url.Parse(p.Issuer); p.Label == "" && err == nil {
		p.Label = u.Host
	}
	return nil
}

// resources takes absolute URIs without a fragment (RFC 8707 section 2): one, or a list.
func resources(target *[]string) field {
	return field{
		list: true,
		show: func() string { return strings.Join(*target, " ") },
		set: func(v value) error {
			all := v.items
			if all == nil {
				all = strings.Fields(v.text)
			}
			for _, one := range all {
				if u, err := url.Parse(one); err != nil || !u.IsAbs() || strings.Contains(one, "#") {
					return errors.New("is not a resource; allowed: absolute URIs without a fragment such as https://api.example.com/")
				}
			}
			*target = all
			return nil
		},
	}
}

// readParams reads what is added to a request. It never shows a value: some are secret.
func readParams(file *configFile, node *yaml.Node, path string, reserved []string, examples string) (map[string]string, error) {
	if node == nil || isNull(node) {
		return nil, nil
	}
	nodes, err := file.mapping(node, path+".", nil)
	if err != nil {
		return nil, err
	}
	params := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		v, err := file.value(nodes[name], path+"."+shorten(name, maxShown), field{secret: true})
		if err != nil {
			return nil, err
		}
		if slices.Contains(reserved, name) {
			return nil, v.refused(errors.New("is set by Keyturn itself; allowed: parameters such as " + examples))
		}
		if !v.empty() {
			params[name] = v.text
		}
	}
	if len(params) == 0 {
		return nil, nil
	}
	return params, nil
}
