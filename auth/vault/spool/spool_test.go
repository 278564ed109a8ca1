package spool

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyturn/auth"
	"keyturn/auth/authtest"
	"keyturn/auth/vault"
	"keyturn/auth/vault/keyset"
	"keyturn/auth/vault/vaulttest"
)

func sealer(t *testing.T) vault.Sealer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyset.json")
	if err := keyset.Create(path); err != nil {
		t.Fatal(err)
	}
	keys, err := keyset.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return vault.Sealer{Keys: keys}
}

func unstored() auth.Unstored {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	g := vaulttest.Grant(now)
	next, record := vaulttest.Renewed(g, now)
	next.Tokens.Access, next.Tokens.Refresh, next.Pending = "CANARY-access", "CANARY-refresh", "CANARY-pending"
	return auth.Unstored{Grant: next, Record: record}
}

func TestAnEntryComesBackAsItWas(t *testing.T) {
	t.Parallel()
	dir, keys := filepath.Join(t.TempDir(), "spool"), sealer(t)
	d, err := Open(dir, keys)
	if err != nil {
		t.Fatal(err)
	}
	u := unstored()
	if err := d.Put(u); err != nil {
		t.Fatal(err)
	}
	// Another process reads it.
	other, err := Open(dir, keys)
	if err != nil {
		t.Fatal(err)
	}
	all, err := other.All()
	if err != nil || len(all) != 1 {
		t.Fatalf("%d entries, %v", len(all), err)
	}
	if diff := cmp.Diff(u, all[0]); diff != "" {
		t.Errorf("the entry changed on the way (-put +read):\n%s", diff)
	}
	if found, err := other.Find(u.Grant.ID); err != nil || found.Grant.Tokens.Refresh != "CANARY-refresh" {
		t.Errorf("found %v, %v", found.Grant, err)
	}
	if err := other.Remove(u); err != nil {
		t.Error(err)
	}
	if _, err := d.Find(u.Grant.ID); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("after the removal: %v", err)
	}
	if err := d.Remove(u); err != nil {
		t.Errorf("removing twice: %v", err)
	}
}

// Whoever has stored one renewal knows nothing of the next, which has taken its place meanwhile.
func TestTheEntryThatTookItsPlaceIsNotRemoved(t *testing.T) {
	t.Parallel()
	_, d := withEntry(t)
	all, err := d.All()
	if err != nil || len(all) != 1 {
		t.Fatalf("%d entries, %v", len(all), err)
	}
	u := all[0]
	for what, edit := range map[string]func(r *auth.Renewal){
		"another generation":    func(r *auth.Renewal) { r.Generation-- },
		"another access token":  func(r *auth.Renewal) { r.NewToken = "cccccc" },
		"another refresh token": func(r *auth.Renewal) { r.NewRefresh = "cccccc" },
	} {
		record := *u.Record
		edit(&record)
		if err := d.Remove(auth.Unstored{Grant: u.Grant, Record: &record}); err != nil {
			t.Error(err)
		}
		if found, err := d.Find(u.Grant.ID); err != nil || found.Grant.Tokens != u.Grant.Tokens {
			t.Errorf("with %s it is gone: %v", what, err)
		}
	}
}

// withEntry is a spool that holds one entry.
func withEntry(t *testing.T) (dir string, d *Dir) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "spool")
	d, err := Open(dir, sealer(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Put(unstored()); err != nil {
		t.Fatal(err)
	}
	return dir, d
}

func TestTheFilesHoldNoSecretAndBelongToTheOwner(t *testing.T) {
	t.Parallel()
	dir, _ := withEntry(t)
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Fatalf("%d files, %v; want the entry and the reserve", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil || strings.Contains(string(text), "CANARY") || strings.Contains(string(text), "alice@example.com") {
			t.Errorf("%s holds a secret (%v)", file.Name(), err)
		}
		if info, err := file.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others", file.Name())
		}
	}
}

func TestTheFolderMayHaveAnyName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"data[1]", "x[y", "a*b", `c\d`} {
		d, err := Open(filepath.Join(t.TempDir(), name, "spool"), sealer(t))
		if err != nil {
			t.Fatal(err)
		}
		u := unstored()
		if err := d.Put(u); err != nil {
			t.Fatal(err)
		}
		all, notRead := d.All()
		next, notListed := d.SealedAfter("")
		if len(all) != 1 || next.ID != u.Grant.ID || errors.Join(notRead, notListed) != nil {
			t.Errorf("%s: %d entries, %v; then %q, %v", name, len(all), notRead, next.ID, notListed)
		}
	}
}

func TestAnUnreadableEntryDoesNotHideTheOthers(t *testing.T) {
	t.Parallel()
	dir, d := withEntry(t)
	if err := os.WriteFile(filepath.Join(dir, "torn.json"), []byte(`{"grant":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := d.All(); len(all) != 1 || err == nil {
		t.Errorf("%d entries, error %v; want the whole one, and an error for the torn one", len(all), err)
	}
	if _, err := d.Find("torn"); !errors.Is(err, auth.ErrUnreadable) {
		t.Errorf("the torn one: %v", err)
	}
	if _, err := d.Find("../keyset"); err == nil {
		t.Error("a path was taken for an id")
	}
}

func TestEachBlobIsListedOnceAndInOrder(t *testing.T) {
	t.Parallel()
	d, err := Open(filepath.Join(t.TempDir(), "spool"), sealer(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"b", "c", "a"} {
		u := unstored()
		u.Grant.ID, u.Record.GrantID = id, id
		if err := d.Put(u); err != nil {
			t.Fatal(err)
		}
	}
	for after, want := range map[string]string{"": "a", "a": "b", "aa": "b", "b": "c", "c": ""} {
		s, err := d.SealedAfter(after)
		if err != nil || s.ID != want || (len(s.Blob) > 0) != (want != "") {
			t.Errorf("after %q: %q with %d bytes, %v; want %q", after, s.ID, len(s.Blob), err, want)
		}
	}
}

func TestWhatAKilledProcessHadBegunToWriteIsRemoved(t *testing.T) {
	t.Parallel()
	dir, d := withEntry(t)
	old, begun := filepath.Join(dir, ".entry-1"), filepath.Join(dir, ".entry-2")
	for _, path := range []string{old, begun} {
		if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ago := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(old, ago, ago); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, d.sealer); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".entry-*"))
	if err != nil || len(left) != 1 || left[0] != begun {
		t.Errorf("left: %v, %v; want what another process may be writing", left, err)
	}
	if all, err := d.All(); len(all) != 1 || err != nil {
		t.Errorf("%d entries, %v", len(all), err)
	}
}

// fill takes all room that a disk has, and is the file that has it.
func fill(t *testing.T, disk string) (path string) {
	t.Helper()
	filler, err := os.CreateTemp(disk, "filler")
	if err != nil {
		t.Fatal(err)
	}
	for chunk := make([]byte, 4096); err == nil; {
		_, err = filler.Write(chunk)
	}
	if err := filler.Close(); err != nil {
		t.Fatal(err)
	}
	return filler.Name()
}

// free frees a part of what fill took.
func free(t *testing.T, filler string, size int64) {
	t.Helper()
	info, err := os.Stat(filler)
	if err == nil {
		err = os.Truncate(filler, info.Size()-size)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestOnAFullDiskTheReserveIsUsed(t *testing.T) {
	t.Parallel()
	dir := authtest.SmallDisk(t, "2m")
	d, err := Open(filepath.Join(dir, "spool"), sealer(t))
	if err != nil {
		t.Fatal(err)
	}
	fill(t, dir)
	if err := d.Check(); err != nil {
		t.Errorf("with the reserve: %v", err)
	}
	u, entries := unstored(), 0
	for ; err == nil; entries++ {
		u.Grant.ID = auth.NewGrantID(time.Now())
		err = d.Put(u)
	}
	if all, unreadable := d.All(); len(all) != entries-1 || entries < 64 || unreadable != nil || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%d of %d entries, %v, %v", len(all), entries, unreadable, err)
	}
	if err := d.Check(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("without the reserve: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "spool"), d.sealer); err != nil {
		t.Errorf("a start on a full disk: %v", err)
	}
}

// A database on the same disk takes what room comes free, and then its entries leave the spool: the reserve is there for the next ones.
func TestTheReserveIsForEntriesAlone(t *testing.T) {
	t.Parallel()
	dir := authtest.SmallDisk(t, "2m")
	d, err := Open(filepath.Join(dir, "spool"), sealer(t))
	if err != nil {
		t.Fatal(err)
	}
	for n := range 10 {
		fill(t, dir)
		u := unstored()
		if err := d.Put(u); err != nil {
			t.Fatalf("entry %d: %v", n, err)
		}
		fill(t, dir)
		if err := d.Remove(u); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(d.reservePath()); err != nil || info.Size() < reserveSize/2 {
		t.Errorf("of the reserve is left %v, %v", info, err)
	}
}

// On a disk that has less room than the reserve is to have, the database has that.
func TestAReserveThatCannotBeHadWholeLeavesTheRoomToTheDatabase(t *testing.T) {
	t.Parallel()
	dir := authtest.SmallDisk(t, "2m")
	filler := fill(t, dir)
	free(t, filler, 550<<10)
	d, err := Open(filepath.Join(dir, "spool"), sealer(t))
	if err != nil {
		t.Fatal(err)
	}
	database := func(when string, size int) {
		t.Helper()
		if err := probe(dir, size); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
	database("after a start", 500<<10)
	var stored []auth.Unstored
	for ; err == nil; err = d.Put(stored[len(stored)-1]) {
		u := unstored()
		u.Grant.ID = auth.NewGrantID(time.Now())
		stored = append(stored, u)
	}
	stored = stored[:len(stored)-1]
	free(t, filler, 400<<10)
	for _, u := range stored {
		if err := d.Remove(u); err != nil {
			t.Fatal(err)
		}
		database("after an entry has left", 390<<10)
	}
	reserved := func(when string) {
		t.Helper()
		if info, err := os.Stat(d.reservePath()); err != nil || info.Size() < 400<<10 || info.Size() >= reserveSize {
			t.Errorf("%s the reserve is %v, %v", when, info, err)
		}
	}
	reserved("in the room of the entries")
	fill(t, dir)
	if _, err := Open(filepath.Join(dir, "spool"), d.sealer); err != nil {
		t.Fatal(err)
	}
	reserved("after a start on a full disk")
}

// closable is a folder on a file system that can be made read-only.
func closable(t *testing.T) (dir string, closed func()) {
	t.Helper()
	dir = authtest.SmallDisk(t, "4m")
	return dir, func() {
		if output, err := exec.Command("mount", "-o", "remount,ro", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
	}
}

func TestAFolderThatTakesNothingIsTold(t *testing.T) {
	t.Parallel()
	dir, closed := closable(t)
	keys := sealer(t)
	d, err := Open(dir, keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Check(); err != nil {
		t.Errorf("at first: %v", err)
	}
	closed()
	if err := d.Check(); !errors.Is(err, syscall.EROFS) {
		t.Errorf("when it has become read-only: %v", err)
	}
	if _, err := Open(dir, keys); !errors.Is(err, syscall.EROFS) {
		t.Errorf("opening it: %v", err)
	}
}
