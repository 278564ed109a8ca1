package session

import (
	"encoding/json"
	"fmt"
	"time"
)

// codec writes sessions as JSON: their values are strings only, and gob costs more than the read of the row.
type codec struct{}

type encoded struct {
	Deadline int64             `json:"deadline"` // microseconds since 1970
	Values   map[string]string `json:"values,omitempty"`
}

// Encode implements scs.Codec.
func (codec) Encode(deadline time.Time, values map[string]any) ([]byte, error) {
	e := encoded{Deadline: deadline.UnixMicro(), Values: make(map[string]string, len(values))}
	for name, value := range values {
		text, ok := value.(string)
		if !ok {
			return nil, fmt.Errorf("encode session: %s is no string", name)
		}
		e.Values[name] = text
	}
	return json.Marshal(e)
}

// Decode implements scs.Codec.
func (codec) Decode(b []byte) (time.Time, map[string]any, error) {
	var e encoded
	if err := json.Unmarshal(b, &e); err != nil {
		return time.Time{}, nil, fmt.Errorf("decode session: %w", err)
	}
	values := make(map[string]any, len(e.Values))
	for name, text := range e.Values {
		values[name] = text
	}
	return time.UnixMicro(e.Deadline).UTC(), values, nil
}
