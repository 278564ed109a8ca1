package views

import "github.com/a-h/templ"

// oob marks a part of a fragment that htmx swaps in beside the one that was asked for.
func oob(outOfBand bool) templ.Attributes {
	if !outOfBand {
		return nil
	}
	return templ.Attributes{"hx-swap-oob": "true"}
}
