package session

import (
	"context"
	"log/slog"

	"keyturn/auth"
)

// legible is a store in which a session that cannot be decoded is none: whoever comes with its cookie can sign in anew. It stays where it
// is, and its grant ends as that of any other session that nobody comes back to.
type legible struct {
	Store
	log    *slog.Logger
	unread auth.Complaint
}

// FindCtx implements scs.CtxStore.
func (l *legible) FindCtx(ctx context.Context, hash string) (data []byte, found bool, err error) {
	data, found, err = l.Store.FindCtx(ctx, hash)
	if err != nil || !found {
		return nil, false, err
	}
	if !decodes(data) {
		known := FromContext(ctx)
		l.unread.Make(func(times int) {
			l.log.WarnContext(ctx, "a session in the database cannot be read, and counts as none", "grant", known.Owner.GrantID, "times", times)
		})
		known.Loaded, known.Read, known.Owner = "", nil, Owner{}
		return nil, false, nil
	}
	return data, true, nil
}

func decodes(data []byte) bool {
	_, _, err := codec{}.Decode(data)
	return err == nil
}
