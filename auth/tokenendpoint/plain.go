package tokenendpoint

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
)

var (
	gzipMagic     = []byte{0x1f, 0x8b}       // RFC 1952 section 2.3.1
	byteOrderMark = []byte{0xef, 0xbb, 0xbf} // RFC 8259 section 8.1 lets a reader ignore it
)

// Plain is a body as it is meant: unpacked if it is compressed, although nobody asked for that and whatever its label says, and without a
// byte order mark. It is as long as that makes it: bound what is read of it.
func Plain(body io.Reader) io.Reader { return &plain{from: bufio.NewReader(body)} }

type plain struct {
	from   *bufio.Reader
	opened bool
}

// Read implements io.Reader.
func (p *plain) Read(b []byte) (int, error) {
	if !p.opened {
		p.opened = true
		if magic, _ := p.from.Peek(len(gzipMagic)); bytes.Equal(magic, gzipMagic) {
			unpacked, err := gzip.NewReader(p.from)
			if err != nil {
				return 0, err
			}
			p.from = bufio.NewReader(unpacked)
		}
		if mark, _ := p.from.Peek(len(byteOrderMark)); bytes.Equal(mark, byteOrderMark) {
			_, _ = p.from.Discard(len(byteOrderMark))
		}
	}
	return p.from.Read(b)
}
