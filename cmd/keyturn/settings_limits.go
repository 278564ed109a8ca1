package main

import (
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"keyturn/handlers"
)

// limitUnits are the times that a limit may be for, by the letter that stands for each.
var limitUnits = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}

// limit takes a number of times for each second, minute or hour, or off.
func limit(target *handlers.Limit) field {
	return field{
		show: func() string { return showLimit(*target) },
		set: func(v value) error {
			text := strings.TrimSpace(v.text)
			if text == "off" {
				*target = handlers.Limit{}
				return nil
			}
			number, unit, _ := strings.Cut(text, "/")
			n, err := strconv.Atoi(number)
			if err != nil || n < 1 || n > 1_000_000 || limitUnits[unit] == 0 {
				return errors.New("is not a limit; allowed: a number from 1 to 1000000 with /s, /m or /h, such as 600/m, or off")
			}
			*target = handlers.Limit{Count: n, Per: limitUnits[unit]}
			return nil
		},
	}
}

func showLimit(l handlers.Limit) string {
	for unit, per := range limitUnits {
		if l.Per == per {
			return fmt.Sprintf("%d/%s", l.Count, unit)
		}
	}
	return "off"
}

// prefixes takes networks, and addresses as networks of one.
func prefixes(target *[]netip.Prefix) field {
	return field{
		list: true,
		show: func() string {
			texts := make([]string, len(*target))
			for i, prefix := range *target {
				texts[i] = prefix.String()
			}
			return strings.Join(texts, " ")
		},
		set: func(v value) error {
			items := v.items
			if items == nil {
				items = strings.Split(v.text, ",")
			}
			var all []netip.Prefix
			for _, text := range strings.Fields(strings.Join(items, " ")) {
				prefix, err := netip.ParsePrefix(text)
				if address, notAddress := netip.ParseAddr(text); notAddress == nil {
					prefix, err = netip.PrefixFrom(address.Unmap(), address.Unmap().BitLen()), nil
				}
				if err != nil {
					return errors.New("is not a list of networks; allowed: addresses and networks such as 10.0.0.0/8, separated by commas")
				}
				all = append(all, prefix.Masked())
			}
			*target = all
			return nil
		},
	}
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
