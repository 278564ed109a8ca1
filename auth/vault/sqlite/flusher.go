package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"
)

// flushSoon is how long what was committed without waiting for the disk may be in memory only. The mark of a token call that is answered
// sooner is on disk with the answer.
const flushSoon = 10 * time.Millisecond

// flusher has the disk take what was committed without waiting for it, soon and beside everything else. It is safe for concurrent use.
type flusher struct {
	flush func()

	mu      sync.Mutex
	timer   *time.Timer
	pending bool // something is in memory only, and the timer runs
}

func newFlusher(flush func()) *flusher {
	f := &flusher{flush: flush}
	f.timer = time.AfterFunc(time.Hour, f.run)
	f.timer.Stop()
	return f
}

// committed is told of a commit: a light one did not wait for the disk, any other that changed something has had the disk take those before it
// as well.
func (f *flusher) committed(light bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case light && !f.pending:
		f.timer.Reset(flushSoon)
	case !light && f.pending:
		f.timer.Stop()
	}
	f.pending = light
}

func (f *flusher) run() {
	f.mu.Lock()
	f.pending = false
	f.mu.Unlock()
	f.flush()
}

// flush has the disk take all that has been committed. What is lost with a machine that dies before is told to nobody: the next commit that
// waits for the disk says so where it cannot.
func (db *DB) flush() {
	log, err := os.OpenFile(db.Path+"-wal", os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) { // closed meanwhile, and all of it is in the database
		return
	}
	if err == nil {
		err = errors.Join(log.Sync(), log.Close())
	}
	if err != nil {
		db.Log.Error("the write-ahead log cannot be flushed; the next commit tries again", "error", err)
	}
}
