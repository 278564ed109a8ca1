package session

import (
	"bytes"
	"time"
)

// Merge is the data and the expiry of a session as one request leaves it that read it as read, when it is stored as stored by now: another
// has changed it meanwhile. Of each value, and of the deadline, the request's own change counts, else the other's.
func Merge(read, left, stored []byte, expiry time.Time) (merged []byte, expires time.Time, err error) {
	if bytes.Equal(read, stored) {
		return left, expiry, nil
	}
	deadline, values, err := codec{}.Decode(left)
	if err != nil {
		return nil, time.Time{}, err
	}
	deadlineRead, before, err := codec{}.Decode(read)
	if err != nil {
		return nil, time.Time{}, err
	}
	deadlineStored, meanwhile, err := codec{}.Decode(stored)
	if err != nil {
		return nil, time.Time{}, err
	}
	for name := range before {
		if _, kept := values[name]; !kept {
			delete(meanwhile, name)
		}
	}
	for name, value := range values {
		if value != before[name] {
			meanwhile[name] = value
		}
	}
	if deadline.Equal(deadlineRead) {
		deadline = deadlineStored
	}
	merged, err = codec{}.Encode(deadline, meanwhile)
	return merged, deadline, err
}
