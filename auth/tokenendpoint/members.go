package tokenendpoint

import (
	"bytes"
	"encoding/json"
	"regexp"
)

// brokenString is a string with characters or escapes that JSON does not know, and what ends the member.
var brokenString = regexp.MustCompile(`^"(?s:[^"\\]|\\.)*"[ \t\r\n]*[,}]`)

// mostMembers bounds what is read of an object that is no JSON: a token answer has a dozen.
const mostMembers = 1000

// members are those of an object, which may be no JSON, each as far as it came whole: for the sake of one number that is none, such
// as NaN, of a text with an escape that is none, or of an end that got lost, no new refresh token is to be, nor of a second one that is empty.
// Of other members the last counts. ended says that the object has its end.
func members(object []byte, isJSON bool) (found parameters, ended bool) {
	found = parameters{}
	rest := object[1:]
	for n := 0; isJSON || n < mostMembers; n++ {
		rest = bytes.TrimLeft(rest, " \t\r\n,")
		if bytes.HasPrefix(rest, []byte("}")) {
			return found, true
		}
		name, behind, ok := leading(rest)
		text, is := name.(string)
		if !ok || !is || !bytes.HasPrefix(behind, []byte(":")) {
			return found, false
		}
		of := bytes.TrimLeft(behind[1:], " \t\r\n")
		value, behind, ok := leading(of)
		if ok && whole(value, behind) {
			if !isToken(text) || found[text] == nil || value != nil && value != "" {
				found[text] = value
			}
		} else if behind = bare(of); behind == nil || text == "refresh_token" && of[0] == '"' {
			return found, false // a new refresh token that cannot be read is not the same as none
		}
		rest = behind
	}
	return found, false
}

// isToken says of a member whether it is a token. None is lost for one of the same name that is empty.
func isToken(name string) bool {
	return name == "access_token" || name == "refresh_token" || name == "id_token"
}

// whole says of a value whether nothing of it is missing, or behind it. A number may go on where the text ends.
func whole(value any, behind []byte) bool {
	if len(behind) == 0 {
		_, is := value.(string)
		return is
	}
	return behind[0] == ',' || behind[0] == '}'
}

// leading is the JSON value that a text begins with, and what is behind it and white space.
func leading(text []byte) (value any, behind []byte, ok bool) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if decoder.Decode(&value) != nil {
		return nil, nil, false
	}
	return value, bytes.TrimLeft(text[decoder.InputOffset():], " \t\r\n"), true
}

// bare is what is behind a word or a string that is no JSON value; nil where that is not plain, or the text ends in it.
func bare(text []byte) []byte {
	if quoted := brokenString.Find(text); quoted != nil {
		return text[len(quoted)-1:]
	}
	i := bytes.IndexAny(text, ",}\"[{")
	if i < 0 || text[i] != ',' && text[i] != '}' || bytes.Count(text[:i], []byte("'"))%2 != 0 {
		return nil
	}
	return text[i:]
}
