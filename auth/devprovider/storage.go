package devprovider

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const (
	requestLifetime = 10 * time.Minute
	codeLifetime    = time.Minute
	keyID           = "dev-1"
)

// storage is op's view of the state. Errors that the protocol knows are *oidc.Error: op makes others a 500.
type storage struct {
	config   Config
	db       *sql.DB
	keys     keys
	loginURL string
}

var (
	_ op.Storage                  = (*storage)(nil)
	_ op.ClientCredentialsStorage = (*storage)(nil)
)

// authRequest is an authorization request, from its beginning to the exchange of its code.
type authRequest struct {
	id       string
	request  oidc.AuthRequest
	subject  string
	authTime time.Time
	clientID string
	family   string // of the tokens that its code brings
}

func (a *authRequest) GetID() string                      { return a.id }
func (a *authRequest) GetACR() string                     { return "" }
func (a *authRequest) GetAMR() []string                   { return nil }
func (a *authRequest) GetAudience() []string              { return []string{a.clientID} }
func (a *authRequest) GetAuthTime() time.Time             { return a.authTime }
func (a *authRequest) GetClientID() string                { return a.clientID }
func (a *authRequest) GetNonce() string                   { return a.request.Nonce }
func (a *authRequest) GetRedirectURI() string             { return a.request.RedirectURI }
func (a *authRequest) GetResponseType() oidc.ResponseType { return a.request.ResponseType }
func (a *authRequest) GetResponseMode() oidc.ResponseMode { return a.request.ResponseMode }
func (a *authRequest) GetScopes() []string                { return a.request.Scopes }
func (a *authRequest) GetState() string                   { return a.request.State }
func (a *authRequest) GetSubject() string                 { return a.subject }
func (a *authRequest) Done() bool                         { return a.subject != "" }
func (a *authRequest) GetCodeChallenge() *oidc.CodeChallenge {
	return &oidc.CodeChallenge{Challenge: a.request.CodeChallenge, Method: a.request.CodeChallengeMethod}
}

// CreateAuthRequest implements op.AuthStorage. PKCE with S256 is demanded of every client (RFC 9700 section 2.1.1).
func (s *storage) CreateAuthRequest(ctx context.Context, request *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	if n := len(request.CodeChallenge); n < 43 || n > 128 || request.CodeChallengeMethod != oidc.CodeChallengeMethodS256 { // RFC 7636 section 4.2
		return nil, oidc.ErrInvalidRequest().WithDescription("PKCE is required: a code_challenge of 43 to 128 characters, with code_challenge_method S256")
	}
	if mode := request.ResponseMode; mode != "" && mode != oidc.ResponseModeQuery {
		request.ResponseMode = "" // nor is the refusal sent so
		return nil, oidc.ErrInvalidRequest().WithDescription("the one response_mode is query")
	}
	if slices.Contains(request.Prompt, oidc.PromptNone) {
		return nil, oidc.ErrLoginRequired()
	}
	encoded, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	s.tidy(ctx)
	a := &authRequest{id: rand.Text(), request: *request, clientID: request.ClientID}
	_, err = s.db.ExecContext(ctx, `INSERT INTO auth_requests (id, request, until) VALUES (?,?,?)`, a.id, encoded, in(requestLifetime))
	return a, err
}

// AuthRequestByID implements op.AuthStorage.
func (s *storage) AuthRequestByID(ctx context.Context, id string) (op.AuthRequest, error) {
	a, err := s.authRequest(s.db.QueryRowContext(ctx, `SELECT id, request, subject, auth_time FROM auth_requests
		WHERE id = ? AND until > ?`, id, in(0)))
	if err != nil {
		return nil, err
	}
	return a, nil
}

// AuthRequestByCode implements op.AuthStorage. A code works once, whatever comes of the exchange; used again, it ends what it brought
// (RFC 6749 section 4.1.2).
func (s *storage) AuthRequestByCode(ctx context.Context, code string) (op.AuthRequest, error) {
	a, err := s.authRequest(s.db.QueryRowContext(ctx, `DELETE FROM auth_requests
		WHERE code_hash = ? AND code_until > ? RETURNING id, request, subject, auth_time`, hash(code), in(0)))
	if err != nil {
		return nil, errors.Join(err, s.inTx(ctx, func(tx *sql.Tx) error { return revokeFamily(ctx, tx, hash(code)) }))
	}
	a.family = hash(code)
	return a, nil
}

func (s *storage) authRequest(row *sql.Row) (*authRequest, error) {
	var a authRequest
	var encoded []byte
	var authTime int64
	if err := row.Scan(&a.id, &encoded, &a.subject, &authTime); errors.Is(err, sql.ErrNoRows) {
		return nil, oidc.ErrInvalidGrant().WithDescription("unknown, expired or used")
	} else if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(encoded, &a.request); err != nil {
		return nil, err
	}
	a.clientID, a.authTime = a.request.ClientID, time.UnixMicro(authTime).UTC()
	return &a, nil
}

// signedIn marks an authorization request as done by a person. It says false when there is no such request.
func (s *storage) signedIn(ctx context.Context, id, subject string) (bool, error) {
	result, err := s.db.ExecContext(ctx, `UPDATE auth_requests SET subject = ?, auth_time = ?
		WHERE id = ? AND until > ? AND code_hash = ''`, subject, in(0), id, in(0))
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// SaveAuthCode implements op.AuthStorage.
func (s *storage) SaveAuthCode(ctx context.Context, id, code string) error {
	_, err := s.db.ExecContext(ctx, `UPDATE auth_requests SET code_hash = ?, code_until = ? WHERE id = ?`, hash(code), in(codeLifetime), id)
	return err
}

// DeleteAuthRequest implements op.AuthStorage.
func (s *storage) DeleteAuthRequest(ctx context.Context, id string) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM auth_requests WHERE id = ?`, id)
	return err
}

// tidy removes what has expired, a little at a time.
func (s *storage) tidy(ctx context.Context) {
	for _, removal := range []string{
		`DELETE FROM auth_requests WHERE id IN (SELECT id FROM auth_requests WHERE until <= ? LIMIT 100)`,
		`DELETE FROM access_tokens WHERE id IN (SELECT id FROM access_tokens WHERE until <= ? LIMIT 100)`,
		`DELETE FROM families WHERE id IN (SELECT id FROM families WHERE until <= ? LIMIT 100)`,
	} {
		_, err := s.db.ExecContext(ctx, removal, in(0))
		if err != nil {
			s.config.Log.WarnContext(ctx, "development provider could not tidy up", "error", err)
		}
	}
}

// SigningKey implements op.AuthStorage.
func (s *storage) SigningKey(context.Context) (op.SigningKey, error) { return signingKey{s.keys}, nil }

// SignatureAlgorithms implements op.AuthStorage.
func (s *storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.ES256}, nil
}

// KeySet implements op.AuthStorage.
func (s *storage) KeySet(context.Context) ([]op.Key, error) { return []op.Key{publicKey{s.keys}}, nil }

// Health implements op.Storage.
func (s *storage) Health(ctx context.Context) error { return s.db.PingContext(ctx) }

type signingKey struct{ keys }

func (signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k signingKey) Key() any                                  { return k.signing }
func (signingKey) ID() string                                  { return keyID }

type publicKey struct{ keys }

func (publicKey) ID() string                         { return keyID }
func (publicKey) Algorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (publicKey) Use() string                        { return "sig" }
func (k publicKey) Key() any                         { return k.signing.Public() }

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// in is the moment d from now, as the tables keep it.
func in(d time.Duration) int64 { return time.Now().Add(d).UnixMicro() }
