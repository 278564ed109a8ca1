package sqlite

import (
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"keyturn/auth"
	"keyturn/auth/session"
)

// cachedRows bounds how many grants, and how many sessions, are kept in memory.
const cachedRows = 2048

// key names a row.
type key struct{ grant, session string }

// elsewhere is what a write names that changes neither a grant nor a session. One that names nothing may have changed any.
var elsewhere key

// row is a grant that has been opened, or a session that has been read. Nobody changes it.
type row struct {
	grant   *auth.Grant
	session *storedSession
}

// storedSession is a row of the sessions table.
type storedSession struct {
	data            []byte
	owner           session.Owner
	expires, seenAt int64
}

// cache keeps rows in memory for as long as nobody has changed them, this process or another: it holds for one state of the file,
// which the WAL-index tells, and follows this process's own commits from one to the next. It is safe for concurrent use; a
// nil cache keeps nothing.
type cache struct {
	index *walIndex

	mu         sync.Mutex
	rows       *simplelru.LRU[key, row]
	at         snapshot // the state of the file that the rows are from
	others     int64    // the version of the file, which other processes' commits change, at the end of the latest transaction
	committing bool     // this process commits; at is about to be the state after that
}

func newCache(index *walIndex) (*cache, error) {
	rows, err := simplelru.NewLRU[key, row](2*cachedRows, nil)
	if err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	c := &cache{index: index, rows: rows}
	c.at, _ = index.now()
	return c, nil
}

// get returns a row that is as the file has it. Otherwise it returns a ticket with which put takes what is read now.
func (c *cache) get(k key) (found row, ok bool, ticket snapshot) {
	if c == nil {
		return row{}, false, snapshot{}
	}
	now, whole := c.index.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if whole && now == c.at {
		found, ok = c.rows.Get(k)
	}
	return found, ok, now
}

// put keeps a row that was read since ticket, unless somebody has committed meanwhile.
func (c *cache) put(k key, ticket snapshot, r row) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if now, whole := c.index.now(); !whole || now != ticket || c.committing {
		return
	}
	if c.at != ticket { // another process has committed
		c.rows.Purge()
		c.at = ticket
	}
	c.rows.Add(k, r)
}

// begin says that this process has the right to write, as nobody else has now.
func (c *cache) begin() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.committing = true
}

// end says that the transaction of the given writes is over, and whether it was committed. What version tells changes with the commits
// of other processes; that a single transaction was committed does not say whose it was: one that changes nothing leaves no trace.
func (c *cache) end(version func() (int64, error), writes []*write, committed bool) {
	if c == nil {
		return
	}
	now, whole := c.index.now() // what comes after this is another state, which is not in the cache
	others, err := version()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.committing = false
	anyRow := slices.ContainsFunc(writes, func(w *write) bool { return len(w.rows) == 0 })
	alone := whole && err == nil && others == c.others
	if anyRow || !alone {
		c.rows.Purge()
	}
	for _, one := range writes {
		for _, k := range one.rows {
			c.rows.Remove(k)
		}
		if one.leaves != nil && committed && alone && !anyRow {
			c.rows.Add(one.rows[0], *one.leaves)
		}
	}
	c.at, c.others = now, others
}
