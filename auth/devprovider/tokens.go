package devprovider

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// refreshRequest is a refresh token that may be used, and what it was granted for.
type refreshRequest struct {
	token    string
	clientID string
	subject  string
	scopes   []string
	authTime time.Time
}

func (r *refreshRequest) GetAMR() []string            { return nil }
func (r *refreshRequest) GetAudience() []string       { return []string{r.clientID} }
func (r *refreshRequest) GetAuthTime() time.Time      { return r.authTime }
func (r *refreshRequest) GetClientID() string         { return r.clientID }
func (r *refreshRequest) GetScopes() []string         { return r.scopes }
func (r *refreshRequest) GetSubject() string          { return r.subject }
func (r *refreshRequest) SetCurrentScopes(s []string) { r.scopes = s }

// refreshToken derives the refresh token of a family's generation. It is stored nowhere, and can be answered again
// within the reuse interval.
func (s *storage) refreshToken(family string, generation int64) string {
	name := family + "." + strconv.FormatInt(generation, 10)
	mac := hmac.New(sha256.New, s.keys.refresh)
	mac.Write([]byte(name))
	return name + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// parseRefreshToken is the inverse; ok is false for what refreshToken did not make.
func (s *storage) parseRefreshToken(token string) (family string, generation int64, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", 0, false
	}
	generation, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || !equal(token, s.refreshToken(parts[0], generation)) {
		return "", 0, false
	}
	return parts[0], generation, true
}

// family is the refresh tokens of one sign-in, of which the newest is good.
type family struct {
	id         string
	subject    string
	scopes     string
	authTime   int64
	generation int64
	rotatedAt  int64
	until      int64
}

var errRefused = oidc.ErrInvalidGrant().WithDescription("the refresh token is unknown, spent, expired or revoked")

// queries is a database or a transaction.
type queries interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// familyOf finds the living family of a refresh token, as it was when the token was good. spent says that it is not good any
// more.
func (s *storage) familyOf(ctx context.Context, q queries, token string) (f family, spent bool, err error) {
	id, generation, ok := s.parseRefreshToken(token)
	if !ok {
		return f, false, errRefused
	}
	var revoked bool
	err = q.QueryRowContext(ctx, `SELECT id, subject, scopes, auth_time, generation, rotated_at, until, revoked FROM families WHERE id = ?`, id).
		Scan(&f.id, &f.subject, &f.scopes, &f.authTime, &f.generation, &f.rotatedAt, &f.until, &revoked)
	if errors.Is(err, sql.ErrNoRows) || err == nil && (revoked || f.until <= in(0)) {
		return f, false, errRefused
	}
	again := generation == f.generation-1 && f.rotatedAt > in(-s.config.ReuseInterval)
	spent = generation != f.generation && !again
	f.generation = generation
	return f, spent, err
}

// usable finds the family of a refresh token that may be presented now. Any other use of a genuine refresh token is
// reuse, and revokes the whole family (RFC 9700 section 4.14.2).
func (s *storage) usable(ctx context.Context, tx *sql.Tx, token string) (family, error) {
	f, spent, err := s.familyOf(ctx, tx, token)
	if err != nil || !spent {
		return f, err
	}
	s.config.Log.WarnContext(ctx, "development provider: a spent refresh token was presented; its family is revoked")
	if err := revokeFamily(ctx, tx, f.id); err != nil {
		return f, err
	}
	return f, errRefused
}

func revokeFamily(ctx context.Context, tx *sql.Tx, id string) error {
	if _, err := tx.ExecContext(ctx, `UPDATE families SET revoked = 1 WHERE id = ?`, id); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `UPDATE access_tokens SET revoked = 1 WHERE family = ?`, id)
	return err
}

// inTx runs a transition in one transaction. A refusal commits too: it may have revoked a family.
func (s *storage) inTx(ctx context.Context, transition func(tx *sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	refusal := transition(tx)
	if refusal != nil && !errors.Is(refusal, errRefused) {
		return errors.Join(refusal, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	return refusal
}

// TokenRequestByRefreshToken implements op.AuthStorage.
func (s *storage) TokenRequestByRefreshToken(ctx context.Context, token string) (request op.RefreshTokenRequest, err error) {
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		f, err := s.usable(ctx, tx, token)
		request = &refreshRequest{
			token: token, clientID: s.config.ClientID, subject: f.subject, scopes: strings.Fields(f.scopes), authTime: time.UnixMicro(f.authTime).UTC(),
		}
		return err
	})
	return request, err
}

// CreateAccessAndRefreshTokens implements op.AuthStorage: the first refresh token of a sign-in, or a rotation. The
// refresh token is looked at again, since another request may have spent it meanwhile.
func (s *storage) CreateAccessAndRefreshTokens(
	ctx context.Context, request op.TokenRequest, current string,
) (accessID, refresh string, expiry time.Time, err error) {
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		f := family{subject: request.GetSubject(), scopes: strings.Join(request.GetScopes(), " ")}
		if current == "" {
			a, ok := request.(*authRequest)
			if !ok {
				return errNotSupported
			}
			f.id, f.authTime = a.family, a.authTime.UnixMicro()
			_, err := tx.ExecContext(ctx, `INSERT INTO families (id, subject, scopes, auth_time, generation, rotated_at, until) VALUES (?,?,?,?,1,?,?)`,
				f.id, f.subject, f.scopes, f.authTime, in(0), in(s.config.RefreshLifetime))
			if err != nil {
				return err
			}
		} else {
			if f, err = s.usable(ctx, tx, current); err != nil {
				return err
			}
			// Presented again within the interval, the row is a generation ahead already and stays as it is.
			_, err := tx.ExecContext(ctx, `UPDATE families SET generation = generation + 1, rotated_at = ?, until = ? WHERE id = ? AND generation = ?`,
				in(0), in(s.config.RefreshLifetime), f.id, f.generation)
			if err != nil {
				return err
			}
		}
		refresh = s.refreshToken(f.id, f.generation+1)
		accessID, expiry, err = s.newAccessToken(ctx, tx, f.id, f.subject, strings.Join(request.GetScopes(), " "))
		return err
	})
	return accessID, refresh, expiry, err
}

// CreateAccessToken implements op.AuthStorage.
func (s *storage) CreateAccessToken(ctx context.Context, request op.TokenRequest) (id string, expiry time.Time, err error) {
	family := ""
	if a, ok := request.(*authRequest); ok {
		family = a.family
	}
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		id, expiry, err = s.newAccessToken(ctx, tx, family, request.GetSubject(), strings.Join(request.GetScopes(), " "))
		return err
	})
	return id, expiry, err
}

func (s *storage) newAccessToken(ctx context.Context, tx *sql.Tx, family, subject, scopes string) (string, time.Time, error) {
	// op rounds expires_in down at a slightly later moment.
	id, expiry := rand.Text(), time.Now().Add(s.config.TokenLifetime+500*time.Millisecond)
	_, err := tx.ExecContext(ctx, `INSERT INTO access_tokens (id, family, subject, scopes, until) VALUES (?,?,?,?,?)`,
		id, family, subject, scopes, expiry.UnixMicro())
	return id, expiry, err
}

// RevokeToken implements op.AuthStorage (RFC 7009). The token is a refresh token, or the id of an access token.
func (s *storage) RevokeToken(ctx context.Context, token, _, _ string) *oidc.Error {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		if id, _, ok := s.parseRefreshToken(token); ok {
			return revokeFamily(ctx, tx, id)
		}
		_, err := tx.ExecContext(ctx, `UPDATE access_tokens SET revoked = 1 WHERE id = ?`, token)
		return err
	})
	if err != nil {
		return oidc.ErrServerError().WithParent(err)
	}
	return nil
}

// GetRefreshTokenInfo implements op.AuthStorage.
func (s *storage) GetRefreshTokenInfo(_ context.Context, _, token string) (userID, tokenID string, err error) {
	if _, _, ok := s.parseRefreshToken(token); ok {
		return "", token, nil
	}
	return "", "", op.ErrInvalidRefreshToken
}

// TerminateSession implements op.AuthStorage. There is no session at this provider: people sign in each time.
func (s *storage) TerminateSession(context.Context, string, string) error { return nil }

// liveAccessToken returns the scopes of an access token that is neither expired nor revoked.
func (s *storage) liveAccessToken(ctx context.Context, id, subject string) (scopes []string, expiry time.Time, err error) {
	var text string
	var until int64
	err = s.db.QueryRowContext(ctx, `SELECT scopes, until FROM access_tokens WHERE id = ? AND subject = ? AND until > ? AND revoked = 0`,
		id, subject, in(0)).Scan(&text, &until)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, time.Time{}, oidc.ErrAccessDenied().WithDescription("the access token is unknown, expired or revoked")
	}
	return strings.Fields(text), time.UnixMicro(until), err
}
