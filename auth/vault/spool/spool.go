// Package spool keeps on disk, sealed, what the database would not take.
package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"keyturn/auth"
	"keyturn/auth/keyfile"
	"keyturn/auth/vault"
)

// reserveSize is set aside on the disk for the time when it is full. An entry takes a few KiB.
const reserveSize = 1 << 20

const reserveName = ".reserve"

// probeSize is about what an entry takes, and block what a file system hands out at a time.
const (
	probeSize = 4 << 10
	block     = 4 << 10
)

// Dir is a folder of entries, one file a grant. It implements auth.Spool.
type Dir struct {
	path   string
	sealer vault.Sealer
	mu     sync.Mutex
}

var _ auth.Spool = (*Dir)(nil)

// Open makes the folder, for the owner only, and sets the reserve aside. A disk without room for that is no error; a folder that cannot be
// written to is.
func Open(path string, sealer vault.Sealer) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	d := &Dir{path: path, sealer: sealer}
	d.sweep()
	d.reserve(0)
	if err := d.Check(); err != nil && !noRoom(err) {
		return nil, err
	}
	return d, nil
}

// Check says why nothing could be put into the spool now. On a full disk the reserve does. It is safe for concurrent use, and waits for no
// entry that is being written.
func (d *Dir) Check() error {
	err := probe(d.path, probeSize)
	if info, none := os.Stat(d.reservePath()); noRoom(err) && none == nil && info.Size() >= probeSize {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// Full says whether a folder's disk has no room, not even for what a spool sets aside.
func Full(folder string) bool { return noRoom(probe(folder, reserveSize)) }

// probe says why a file of a size could not be written in a folder now.
func probe(folder string, size int) error {
	file, err := os.CreateTemp(folder, unfinished)
	if err != nil {
		return err
	}
	_, err = file.Write(make([]byte, size))
	return errors.Join(err, file.Close(), os.Remove(file.Name()))
}

func (d *Dir) reservePath() string { return filepath.Join(d.path, reserveName) }

// unfinished is the pattern of the names of entries that are being written, and writeWithin how long that takes at most.
const (
	unfinished  = ".entry-*"
	writeWithin = time.Hour
)

// extension is what the names of entries end with, after the id of the grant.
const extension = ".json"

// sweep removes what processes that were killed had begun to write: it holds tokens, sealed, of grants that may have ended since.
func (d *Dir) sweep() {
	files, _ := os.ReadDir(d.path)
	for _, file := range files {
		if begun, _ := filepath.Match(unfinished, file.Name()); !begun {
			continue
		}
		if info, err := file.Info(); err == nil && time.Since(info.ModTime()) > writeWithin {
			_ = os.Remove(filepath.Join(d.path, file.Name())) // the next process tries again
		}
	}
}

// entry is a file of the spool. Its field names are a storage format: add, never rename.
type entry struct {
	Grant  auth.Grant   `json:"grant"` // without what is sealed
	Sealed []byte       `json:"sealed"`
	Record auth.Renewal `json:"record"`
}

// Put implements auth.Spool. When the disk, or what the owner may have of it, is full it takes of the reserve's room.
func (d *Dir) Put(u auth.Unstored) error {
	sealed, err := d.sealer.Seal(u.Grant)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	text, err := json.Marshal(entry{Grant: outside(*u.Grant), Sealed: sealed, Record: *u.Record})
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	err = d.write(u.Grant.ID, text)
	for noRoom(err) && d.give(len(text)) {
		err = d.write(u.Grant.ID, text)
	}
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// outside is what of a grant is in the clear in the database as well.
func outside(g auth.Grant) auth.Grant {
	return auth.Grant{
		ID: g.ID, SessionHash: g.SessionHash, Identity: auth.Identity{Provider: g.Identity.Provider, Subject: g.Identity.Subject},
		Generation: g.Generation, DueAt: g.DueAt, CreatedAt: g.CreatedAt, SeenAt: g.SeenAt, UserAgent: g.UserAgent, IP: g.IP,
	}
}

// write replaces an entry's file whole.
func (d *Dir) write(id string, text []byte) error {
	path, err := d.file(id)
	if err != nil {
		return err
	}
	temporary, err := keyfile.WriteTemporary(d.path, unfinished, text)
	if err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return keyfile.SyncDir(d.path)
}

var idShape = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

func (d *Dir) file(id string) (string, error) {
	if !idShape.MatchString(id) {
		return "", fmt.Errorf("no id of a grant: %q", id)
	}
	return filepath.Join(d.path, id+extension), nil
}

// Find implements auth.Spool.
func (d *Dir) Find(id string) (auth.Unstored, error) {
	path, err := d.file(id)
	if err != nil {
		return auth.Unstored{}, fmt.Errorf("spool: %w", err)
	}
	return d.read(path)
}

func readEntry(path string) (e entry, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return entry{}, auth.ErrNotFound
	}
	if err != nil {
		return entry{}, fmt.Errorf("spool: %w", err)
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return entry{}, fmt.Errorf("spool: %s: %w", filepath.Base(path), errors.Join(auth.ErrUnreadable, err))
	}
	return e, nil
}

func (d *Dir) read(path string) (auth.Unstored, error) {
	e, err := readEntry(path)
	if err != nil {
		return auth.Unstored{}, err
	}
	if err := d.sealer.Open(&e.Grant, e.Sealed); err != nil {
		return auth.Unstored{}, fmt.Errorf("spool: %s: %w", filepath.Base(path), err)
	}
	return auth.Unstored{Grant: &e.Grant, Record: &e.Record}, nil
}

// ids are those of the grants that there are entries of, in order; with an error, of those that were found.
func (d *Dir) ids() (ids []string, err error) {
	files, err := os.ReadDir(d.path)
	for _, file := range files {
		if id, is := strings.CutSuffix(file.Name(), extension); is {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	if err != nil {
		return ids, fmt.Errorf("spool: %w", err)
	}
	return ids, nil
}

// SealedAfter returns the blob of the entry that follows the grant's id after; none has an empty ID.
func (d *Dir) SealedAfter(after string) (vault.Sealed, error) {
	ids, err := d.ids()
	for _, id := range ids {
		if id <= after {
			continue
		}
		e, err := readEntry(filepath.Join(d.path, id+extension))
		if errors.Is(err, auth.ErrNotFound) {
			continue
		}
		return vault.Sealed{ID: id, Blob: e.Sealed}, err
	}
	return vault.Sealed{}, err
}

// All implements auth.Spool.
func (d *Dir) All() ([]auth.Unstored, error) {
	ids, err := d.ids()
	var all []auth.Unstored
	for _, id := range ids {
		u, unreadable := d.read(filepath.Join(d.path, id+extension))
		switch {
		case unreadable == nil:
			all = append(all, u)
		case !errors.Is(unreadable, auth.ErrNotFound):
			err = errors.Join(err, unreadable)
		}
	}
	return all, err
}

// Remove implements auth.Spool. What the reserve lacks is set aside anew, on a full disk as much of it as the entry took.
func (d *Dir) Remove(u auth.Unstored) error {
	path, err := d.file(u.Grant.ID)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := readEntry(path)
	switch kept := e.Record; {
	case errors.Is(err, auth.ErrNotFound):
		return nil
	case err != nil:
		return err
	case kept.Generation != u.Record.Generation || kept.NewToken != u.Record.NewToken || kept.NewRefresh != u.Record.NewRefresh:
		return nil
	}
	info, err := os.Stat(path)
	if err == nil {
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	d.reserve((info.Size() + block - 1) / block * block)
	return keyfile.SyncDir(d.path)
}

// give gives up what an entry of a size takes of the reserve, and no more: a database on the same disk may be waiting for room, and would
// take the rest. It is false when nothing is left.
func (d *Dir) give(size int) bool {
	path := d.reservePath()
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	left := (info.Size() - int64(size)) / block * block
	return left > 0 && os.Truncate(path, left) == nil || os.Remove(path) == nil
}

// reserve sets aside what room the reserve lacks. On a disk without so much it takes what of it has just been freed, and leaves the rest to the
// database.
func (d *Dir) reserve(freed int64) {
	path := d.reservePath()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.Size() >= reserveSize {
		return
	}
	if n, err := file.Write(make([]byte, reserveSize-info.Size())); err != nil { // zeros that are written take room, unlike a hole
		_ = os.Truncate(path, info.Size()+min(int64(n), freed))
	}
}
