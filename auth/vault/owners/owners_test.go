package owners

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func buried(t *testing.T, prefix string) (dead []string) {
	t.Helper()
	if err := New(prefix).Bury(func(owner string) error { dead = append(dead, owner); return nil }); err != nil {
		t.Error(err)
	}
	slices.Sort(dead)
	return dead
}

func TestWhoDied(t *testing.T) {
	t.Parallel()
	prefix := filepath.Join(t.TempDir(), "lease.owner-")
	one, two := New(prefix), New(prefix)
	for owners, names := range map[*Owners][]string{one: {"a", "b", "a"}, two: {"c"}} {
		for _, name := range names {
			if err := owners.Claim(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if dead := buried(t, prefix); len(dead) != 0 {
		t.Errorf("while all live: %v", dead)
	}
	if err := one.Release(); err != nil {
		t.Fatal(err)
	}
	if dead := buried(t, prefix); !slices.Equal(dead, []string{"a", "b"}) {
		t.Errorf("dead are %v", dead)
	}
	if dead := buried(t, prefix); len(dead) != 0 {
		t.Errorf("dead once more: %v", dead)
	}
	// Whoever still wants a lease while a vault is closed must leave nothing behind.
	files := func() int { list, _ := filepath.Glob(filepath.Join(filepath.Dir(prefix), "*")); return len(list) }
	if before := files(); one.Claim("late") == nil || files() != before {
		t.Errorf("there are %d files after a claim that comes too late, %d before", files(), before)
	}
}

// A copied folder says nothing of those who live on with the first one.
func TestCopiesTellOfNobody(t *testing.T) {
	t.Parallel()
	folder, copied := t.TempDir(), t.TempDir()
	living := New(filepath.Join(folder, "lease.owner-"))
	if err := living.Claim("a"); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(copied, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	if dead := buried(t, filepath.Join(copied, "lease.owner-")); len(dead) != 0 {
		t.Errorf("dead by the copy: %v", dead)
	}
}

func TestWithoutFilesNobodyIsKnown(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"", filepath.Join(t.TempDir(), "missing", "owner-")} {
		if dead := buried(t, prefix); len(dead) != 0 {
			t.Errorf("%q: %v", prefix, dead)
		}
	}
	if err := New("").Claim("a"); err != nil {
		t.Error(err)
	}
}
