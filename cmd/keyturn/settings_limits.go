package main

import (
	"errors"
	"fmt"
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
