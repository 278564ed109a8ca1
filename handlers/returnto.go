package handlers

import (
	"fmt"
	"net/url"
	"path"
	"strings"
	"unicode/utf8"
)

// maxReturnTo bounds a return_to in bytes.
const maxReturnTo = 2048

// returnPath is localPath for where a sign-in may end: at something that a person can look at, not at a part of a page, or a call.
func (a *app) returnPath(text string) string {
	local := localPath(text)
	u, err := url.Parse(local)
	if err != nil || a.isNoPage(path.Clean(u.Path)) {
		return ""
	}
	return local
}

// isNoPage says that a path is of a route that is not to be looked at by itself.
func (a *app) isNoPage(clean string) bool {
	for _, prefix := range []string{"/auth", renewRoute, triggerRoute, EventsRoute, "/static", "/healthz", "/readyz", "/dashboard/", a.DevPrefix} {
		under := strings.TrimSuffix(prefix, "/") + "/"
		if prefix != "" && (clean == prefix || strings.HasPrefix(clean, under)) {
			return true
		}
	}
	return false
}

// asciiOnly is a query as a Location may hold it (RFC 3986 section 2.1).
func asciiOnly(query string) string {
	var b strings.Builder
	for i := range len(query) {
		if c := query[i]; c < utf8.RuneSelf {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// localPath returns the local path and query that a return_to means, or "" if it leads, or might lead in some browser,
// anywhere else. It refuses rather than repairs.
func localPath(text string) string {
	if text == "" || len(text) > maxReturnTo || !utf8.ValidString(text) || !plainPath(text) {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" {
		return ""
	}
	// Once more as a browser or a proxy behind us may decode it, and again as it may decode that.
	for decoded, n := u.Path, 0; n < 3; n++ {
		if !plainPath(decoded) {
			return ""
		}
		next, err := url.PathUnescape(decoded)
		if err != nil || next == decoded {
			break
		}
		decoded = next
	}
	local := (&url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: asciiOnly(u.RawQuery)}).String()
	if !plainPath(local) || len(local) > maxReturnTo {
		return ""
	}
	return local
}

// plainPath says that the text begins with exactly one slash and has nothing that a browser strips or takes for a
// slash, nor dot segments that would bring two slashes together.
func plainPath(text string) bool {
	if !strings.HasPrefix(text, "/") || strings.HasPrefix(text, "//") || strings.Contains(text, `\`) {
		return false
	}
	for _, c := range text {
		if c < 0x20 || c == 0x7f || c >= 0x80 && c < 0xa0 {
			return false
		}
	}
	path, _, _ := strings.Cut(text, "?")
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return true
}
