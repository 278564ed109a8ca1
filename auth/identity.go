package auth

// Identity is who signed in, as the provider said it. A person is (Provider, Subject), never an e-mail address
// (OpenID Connect Core 5.7).
type Identity struct {
	Provider string         // configured name of the provider
	Issuer   string         // iss of the id token; empty for providers without id tokens
	Subject  string         // sub
	Name     string         // display name; may be empty
	Email    string         // may be empty
	Picture  string         // URL; may be empty
	Claims   map[string]any // raw claims of the id token, and of userinfo where there is one
}
