package keyfile

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// What takes the file's place while it is read is not read under the first one's mode.
func TestWhatIsReadIsWhatWasLookedAt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	mine, anybodys, next := filepath.Join(dir, "mine"), filepath.Join(dir, "anybodys"), filepath.Join(dir, "next")
	for file, mode := range map[string]os.FileMode{mine: 0o600, anybodys: 0o644} {
		if err := errors.Join(os.WriteFile(file, []byte(filepath.Base(file)), 0o600), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
	}
	put := func(file string) {
		if err := errors.Join(os.Link(file, next), os.Rename(next, path)); err != nil {
			t.Error(err)
		}
	}
	put(mine)
	done := make(chan struct{})
	var putting sync.WaitGroup
	putting.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				put(anybodys)
				put(mine)
			}
		}
	})
	refused := 0
	for n := 0; n < 20_000 || refused == 0; n++ {
		content, info, err := ReadPrivate(path)
		if err != nil {
			refused++
			continue
		}
		if string(content) != "mine" || info.Mode().Perm() != 0o600 {
			t.Errorf("%q with mode %v", content, info.Mode())
			break
		}
	}
	close(done)
	putting.Wait()
}
