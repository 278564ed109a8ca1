// Package session keeps the browser's session with scs: who is signed in, pending sign-ins, and a word to show once. A
// session names a grant and holds no token.
package session

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"

	"keyturn/auth"
)

// Sealer seals what a sign-in needs when it comes back: somebody who reads the storage must not be able to finish it. A text opens
// under the name that it was sealed with. Implementations are safe for concurrent use.
type Sealer interface {
	SealText(name string, plain []byte) ([]byte, error)
	OpenText(name string, sealed []byte) ([]byte, error)
}

// Options are what a Manager is made of.
type Options struct {
	Store    Store
	Uses     auth.Uses
	Sealer   Sealer
	Lifetime time.Duration // absolute
	Secure   bool          // the site is served over https
	Now      func() time.Time
	Log      *slog.Logger
	OnError  func(w http.ResponseWriter, r *http.Request, err error) // the store failed, or the client went away
}

// Manager is the sessions of one Keyturn. It is safe for concurrent use.
type Manager struct {
	scs    *scs.SessionManager
	store  Store
	uses   auth.Uses
	sealer Sealer
	now    func() time.Time
	locks  locks
}

// anonymousLifetime bounds a session in which nobody has signed in yet: it holds pending sign-ins only.
const anonymousLifetime = pendingLifetime

const flashKey = "flash"

// New returns a Manager. Its cookie is HttpOnly and SameSite=Lax, because a provider's redirect back is a cross-site
// navigation; over https it is Secure and has the __Host- prefix.
func New(options Options) *Manager {
	sm := scs.New()
	store := &legible{Store: options.Store, log: options.Log, unread: auth.Complaint{Every: time.Minute}}
	sm.Store = store
	sm.Codec = codec{}
	sm.Lifetime = options.Lifetime
	sm.IdleTimeout = 0 // the store's: with scs's every request would write the session whole
	sm.HashTokenInStore = true
	sm.Cookie.Name = "keyturn_session"
	sm.Cookie.SameSite = http.SameSiteLaxMode
	if options.Secure {
		sm.Cookie.Name, sm.Cookie.Secure = "__Host-keyturn_session", true
	}
	sm.ErrorFunc = options.OnError
	return &Manager{scs: sm, store: store, uses: options.Uses, sealer: options.Sealer, now: options.Now}
}

// Handler loads the session for next and saves it when next changed it. The request's context is to be from NewContext.
func (m *Manager) Handler(next http.Handler) http.Handler { return m.scs.LoadAndSave(next) }

// SignedIn returns who the request's session belongs to; ok is false when nobody is signed in.
func (m *Manager) SignedIn(ctx context.Context) (owner Owner, ok bool) {
	owner = FromContext(ctx).Owner
	return owner, owner.GrantID != ""
}

// Has says whether the request came with a session of any kind.
func (m *Manager) Has(ctx context.Context) bool { return m.scs.Token(ctx) != "" }

// ErrRenamed and ErrEnded say that the session is not there any more: another sign-in has given it a new name, or it is over. The answer
// leaves the browser's cookie alone then.
var (
	ErrRenamed = errors.New("the session has a new name")
	ErrEnded   = errors.New("the session is over")
)

// Renew gives the session a new token, which it has from SignIn on, and returns the hash by which the store is to know it. A token that
// somebody planted is worth nothing then.
func (m *Manager) Renew(ctx context.Context) (hash string, err error) {
	if before := m.scs.Token(ctx); before != "" {
		FromContext(ctx).Former = Hash(before)
	}
	if err := m.scs.RenewToken(ctx); err != nil {
		return "", err
	}
	return Hash(m.scs.Token(ctx)), nil
}

// SignIn makes the session the person's, for its whole lifetime, and stores it under the token that Renew has given it. Nobody signs in to
// a session that has ended since the request began, is being signed out, or has a name that the browser is about to learn: that is
// ErrEnded or ErrRenamed; nor for a browser that has gone away, which would not learn of it. With any error the session is kept (Keep).
func (m *Manager) SignIn(ctx context.Context, owner Owner) error {
	known := FromContext(ctx)
	before := known.Owner
	known.Owner = owner
	m.scs.SetDeadline(ctx, m.now().Add(m.scs.Lifetime).UTC())
	err := ctx.Err()
	if err == nil {
		err = m.enter(ctx, known)
	}
	if err != nil {
		m.Keep(ctx)
		known.Owner = before
	}
	if errors.Is(err, ErrRenamed) || errors.Is(err, ErrEnded) {
		known.Owner = Owner{}
	}
	return err
}

func (m *Manager) enter(ctx context.Context, known *Request) error {
	former, first := known.Former, true
	if former != "" {
		leaving, err := m.uses.Used(ctx, leavingMark(former))
		switch {
		case err != nil:
			return err
		case leaving:
			return ErrEnded
		}
		// Before it is stored: whoever comes with the former name finds either the session or the mark.
		if first, err = m.uses.Use(ctx, formerMark(former), m.now().Add(renamedFor)); err != nil {
			return err
		}
	}
	// Cut off in the middle, nobody would know which of the two there is.
	_, _, err := m.scs.Commit(context.WithoutCancel(ctx))
	if err == nil && known.Gone {
		err = ErrEnded
	}
	switch {
	case errors.Is(err, ErrEnded) && !first:
		return ErrRenamed
	case err != nil && former != "" && first:
		m.giveUp(ctx, formerMark(former)) // it has no other name
	}
	return err
}

// Keep has the session stay as it was when the request began: nothing more of what the request leaves is stored, and the browser's cookie
// stays.
func (m *Manager) Keep(ctx context.Context) { FromContext(ctx).Gone = true }

// Leave says that the request's session is about to End: no sign-in that is under way takes it over meanwhile, unless stay says that it is
// not going to.
func (m *Manager) Leave(ctx context.Context) (stay func(), err error) {
	hash := FromContext(ctx).Loaded
	if hash == "" {
		return func() {}, nil
	}
	// A browser that goes away has asked all the same.
	_, err = m.uses.Use(context.WithoutCancel(ctx), leavingMark(hash), m.now().Add(leavingFor))
	return func() { m.giveUp(ctx, leavingMark(hash)) }, err
}

// End destroys the session. ErrRenamed says that another sign-in has given it a new name since the request began, and that it goes on
// under that.
func (m *Manager) End(ctx context.Context) error {
	known := FromContext(ctx)
	known.Owner = Owner{}
	if !m.Has(ctx) {
		return nil
	}
	if err := m.scs.Destroy(ctx); err != nil || known.Deleted {
		return err
	}
	renamed, err := m.uses.Used(ctx, formerMark(known.Loaded))
	known.Gone = renamed // else the browser is to forget it, kept or not
	if err == nil && renamed {
		err = ErrRenamed
	}
	return err
}

// EndOrphan ends a session whose grant is gone. One that a new sign-in has replaced while this request ran is left alone, and
// so is its cookie: the browser has the new one by now.
func (m *Manager) EndOrphan(ctx context.Context) error {
	_, found, err := m.store.FindCtx(NewContext(ctx), Hash(m.scs.Token(ctx)))
	if err != nil || !found {
		FromContext(ctx).Owner = Owner{}
		return err
	}
	if err := m.End(ctx); !errors.Is(err, ErrRenamed) {
		return err
	}
	return nil
}

// Lives says whether the request's session has not ended since, and when it ends unless it is seen again; zero: at EndsAt. Asking does not
// keep it alive.
func (m *Manager) Lives(ctx context.Context) (lives bool, idlesAt time.Time, err error) {
	return m.lives(ctx, Hash(m.scs.Token(ctx)))
}

func (m *Manager) lives(ctx context.Context, hash string) (lives bool, idlesAt time.Time, err error) {
	ctx = NewContext(ctx)
	asked := FromContext(ctx)
	asked.Passive = true
	_, lives, err = m.store.FindCtx(ctx, hash)
	return lives, asked.IdlesAt, err
}

// EndOther ends the session of a grant, wherever it is. No error if there is none.
func (m *Manager) EndOther(ctx context.Context, hash string) error {
	return m.store.DeleteCtx(ctx, hash)
}

// EndsAt is when the session ends at the latest.
func (m *Manager) EndsAt(ctx context.Context) time.Time { return m.scs.Deadline(ctx) }

// Flash leaves a word for the next page.
func (m *Manager) Flash(ctx context.Context, word string) { m.scs.Put(ctx, flashKey, word) }

// TakeFlash returns the word left for this page, once.
func (m *Manager) TakeFlash(ctx context.Context) string {
	if !m.scs.Exists(ctx, flashKey) {
		return ""
	}
	return m.scs.PopString(ctx, flashKey)
}

// Hash is how a session token is named in storage.
func Hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
