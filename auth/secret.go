package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
)

// Secret is a token or another value that must not be seen. Every usual way of printing it (fmt, log/slog,
// encoding/json) shows its fingerprint; only Reveal gives the value.
type Secret string

// Reveal returns the secret itself. Its callers are the places where a secret may leave the program.
func (s Secret) Reveal() string { return string(s) }

// Fingerprint is the first 24 bits of the SHA-256 of the secret in hexadecimal, enough to tell two tokens of one
// grant apart and useless for anything else. The fingerprint of an empty secret is empty.
func (s Secret) Fingerprint() string {
	if s == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:3])
}

// String implements fmt.Stringer with the fingerprint.
func (s Secret) String() string {
	if s == "" {
		return "none"
	}
	return "sha256:" + s.Fingerprint()
}

// GoString implements fmt.GoStringer with the fingerprint.
func (s Secret) GoString() string { return s.String() }

// Format implements fmt.Formatter, so that no verb (%x among them) shows the value.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue implements slog.LogValuer with the fingerprint.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements encoding.TextMarshaler, which encoding/json uses too, with the fingerprint.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
