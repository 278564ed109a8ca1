package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// codec writes a session as its deadline in microseconds since 1970, and behind that, if there are any, its values as JSON: they
// are strings only. Most sessions have none when a page is read, and then neither gob nor JSON costs anything.
type codec struct{}

// Encode implements scs.Codec.
func (codec) Encode(deadline time.Time, values map[string]any) ([]byte, error) {
	encoded := strconv.AppendInt(nil, deadline.UnixMicro(), 10)
	if len(values) == 0 {
		return encoded, nil
	}
	for name, value := range values {
		if _, ok := value.(string); !ok {
			return nil, fmt.Errorf("encode session: %s is no string", name)
		}
	}
	object, err := json.Marshal(values)
	return append(encoded, object...), err
}

// Decode implements scs.Codec.
func (codec) Decode(b []byte) (time.Time, map[string]any, error) {
	number, object := b, []byte(nil)
	if i := bytes.IndexByte(b, '{'); i >= 0 {
		number, object = b[:i], b[i:]
	}
	deadline, err := strconv.ParseInt(string(number), 10, 64)
	if err != nil {
		return time.Time{}, nil, fmt.Errorf("decode session: %w", err)
	}
	values := map[string]any{}
	if object != nil {
		if err := json.Unmarshal(object, &values); err != nil {
			return time.Time{}, nil, fmt.Errorf("decode session: %w", err)
		}
	}
	return time.UnixMicro(deadline).UTC(), values, nil
}
