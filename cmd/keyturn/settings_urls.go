package main

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"keyturn/auth/provider"
)

// listenAddress checks the form host:port; the host may be empty.
func listenAddress(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	number, notNumber := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil, strings.ContainsAny(host, " /@"):
		return "", errors.New("is not a listen address; allowed: host:port such as localhost:8080 or :8080")
	case notNumber != nil:
		return "", errors.New("has no usable port; allowed: host:port with a port from 0 to 65535")
	}
	return net.JoinHostPort(host, strconv.FormatUint(number, 10)), nil
}

// adminAddress is a listen address or off, which a stronger source says to overrule a weaker one.
func adminAddress(text string) (string, error) {
	if text == "off" {
		return "", nil
	}
	return listenAddress(text)
}

// webURL parses an absolute http or https URL that has nothing after its path. A parse error is not wrapped, because it
// quotes the URL with the credentials in it.
func webURL(text string) (*url.URL, error) {
	const allowed = "; allowed: an absolute URL such as https://id.example.com"
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", badPort(u.Port()):
		return nil, errors.New("is not an http or https URL" + allowed)
	case u.User != nil:
		return nil, errors.New("has a user name or password in it" + allowed)
	case strings.ContainsAny(text, "?#"):
		return nil, errors.New("has a query or a fragment" + allowed)
	}
	return u, nil
}

func badPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port != "" && (err != nil || n == 0)
}

// baseURL checks the public URL and returns its origin, as browsers write it.
func baseURL(text string) (string, error) {
	u, err := webURL(text)
	if err != nil {
		return "", err
	}
	if strings.Trim(u.Path, "/") != "" {
		return "", errors.New("has a path, but Keyturn lives at the root of its host; " +
			"allowed: a URL without a path such as https://keyturn.example.com")
	}
	host, err := asBrowsersWrite(u.Hostname())
	if err != nil {
		return "", err
	}
	return origin(u.Scheme, host, u.Port()), nil
}

// asBrowsersWrite is a host in small letters, and in those of ASCII (RFC 5891). One that has no others may have underscores, too.
func asBrowsersWrite(host string) (string, error) {
	if !strings.ContainsFunc(host, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return strings.ToLower(host), nil
	}
	ascii, err := idna.Lookup.ToASCII(host)
	if err != nil || ascii == "" {
		return "", errors.New("has a host that is no domain name; allowed: one of letters, digits and hyphens such as bücher.example")
	}
	return ascii, nil
}

// origin writes scheme://host:port without a port that the scheme implies.
func origin(scheme, host, port string) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == "" || scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		return scheme + "://" + host
	}
	return scheme + "://" + host + ":" + port
}

// publicURL is the base URL, whether it is set or not. opened is nil where nothing listens.
func (s Settings) publicURL(opened net.Addr) string {
	if s.BaseURL != "" {
		return s.BaseURL
	}
	return deriveBaseURL(s.Addr, opened)
}

// deriveBaseURL is the base URL to use when none is set: the configured listen address with the port that was really
// opened. An address that means every interface becomes localhost. opened may be nil before listening.
func deriveBaseURL(addr string, opened net.Addr) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	if tcp, ok := opened.(*net.TCPAddr); ok {
		port = strconv.Itoa(tcp.Port)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	host, _, _ = strings.Cut(host, "%") // an address's zone means nothing elsewhere, and is no part of an origin
	return origin("http", host, port)
}

// encrypted says whether nobody on the way reads what goes to the URL: it is https, or stays on this machine.
func encrypted(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || provider.Loopback(u.Hostname()))
}

// issuerURL checks an issuer and returns it unchanged: issuers are compared character by character
// (OpenID Connect Core 3.1.3.7), a slash at the end included.
func issuerURL(text string) (string, error) {
	if _, err := webURL(text); err != nil {
		return "", err
	}
	if !encrypted(text) {
		return "", errors.New("is not encrypted; allowed: an https URL, or http for a loopback host")
	}
	return text, nil
}

// devProviderName is the name of the embedded provider.
const devProviderName = "dev"

// devProviderOn says whether the embedded provider is to run under the base URL. An error, in one line like those of
// parseSettings, says that it may not, or that nobody could sign in.
func (s Settings) devProviderOn(base string) (bool, error) {
	var host string
	if u, err := url.Parse(base); err == nil {
		host = u.Hostname()
	}
	loopback := provider.Loopback(host)
	switch {
	case s.DevProvider == toggleOn && !loopback:
		return false, oneLine(fmt.Errorf("%s: \"on\" is refused because the base URL %s is public; "+
			"allowed: a loopback base URL such as http://localhost:8080, or off", s.whereSet("dev-provider"), shown(base)))
	case s.DevProvider == toggleOn:
		for _, p := range s.Providers {
			if p.Name == devProviderName {
				return false, oneLine(fmt.Errorf("%s: a provider of the file is named dev too; "+
					"allowed: another name for it, or off", s.whereSet("dev-provider")))
			}
		}
		return true, nil
	case len(s.Providers) > 0:
		return false, nil
	case s.DevProvider == toggleOff || !loopback:
		why := "the embedded one is off"
		if s.DevProvider != toggleOff {
			why = "the embedded one needs a loopback base URL, not " + shown(base)
		}
		return false, oneLine(fmt.Errorf("no provider is set and %s; set --issuer (KEYTURN_ISSUER) and --client-id "+
			"(KEYTURN_CLIENT_ID), or providers in the file of --config (KEYTURN_CONFIG), or --dev-provider "+
			"(KEYTURN_DEV_PROVIDER) with a loopback base URL", why))
	}
	return true, nil
}

// contactURI checks whom to tell of a vulnerability, and makes a URI of it (RFC 9116 section 2.5.3).
func contactURI(text string) (string, error) {
	if strings.Contains(text, "@") && !strings.Contains(text, ":") {
		text = "mailto:" + text
	}
	u, err := url.Parse(text)
	if err != nil || strings.ContainsAny(text, " \t") || u.Scheme != "https" && u.Scheme != "mailto" && u.Scheme != "tel" ||
		u.Host == "" && u.Opaque == "" || u.User != nil || u.Scheme == "mailto" && !isAddress(u.Opaque) {
		return "", errors.New("is no contact; allowed: an e-mail address, or a URL with https, mailto or tel, and no user in it")
	}
	return text, nil
}

// isAddress says whether text is a bare e-mail address.
func isAddress(text string) bool {
	address, err := mail.ParseAddress(text)
	return err == nil && address.Address == text
}
