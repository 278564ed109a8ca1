package views

import (
	"context"
	"io"
	"strings"

	"github.com/a-h/templ"
)

// oob marks a part of a fragment that htmx swaps in beside the one that was asked for.
func oob(outOfBand bool) templ.Attributes {
	if !outOfBand {
		return nil
	}
	return templ.Attributes{"hx-swap-oob": "true"}
}

// breakable is a text whose long words may be broken where their parts end: addresses, scopes and codes.
func breakable(text string) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		_, err := breaks.WriteString(w, templ.EscapeString(text))
		return err
	})
}

var breaks = strings.NewReplacer("//", "//<wbr>", "/", "/<wbr>", ".", ".<wbr>", "@", "@<wbr>", "_", "_<wbr>")
