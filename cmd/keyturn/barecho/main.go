// Command barecho is what the benchmark compares Keyturn with: an Echo server that does nothing but write the files of a
// folder, which it holds in memory, at the paths that their names say ("api_session" is /api/session); under /headed with the headers
// that are the rest of its answer.
package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/labstack/echo/v4"
)

func main() {
	if err := serve(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// answer is what a file holds.
type answer struct {
	Header http.Header
	Body   []byte
}

func serve(folder string) error {
	files, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	e := echo.New()
	for _, file := range files {
		content, err := os.ReadFile(filepath.Join(folder, file.Name()))
		if err != nil {
			return err
		}
		var whole answer
		if err := json.Unmarshal(content, &whole); err != nil {
			return err
		}
		kind := whole.Header.Get(echo.HeaderContentType)
		path := "/" + strings.ReplaceAll(file.Name(), "_", "/")
		e.GET(path, func(c echo.Context) error { return c.Blob(http.StatusOK, kind, whole.Body) })
		e.GET("/headed"+path, func(c echo.Context) error {
			maps.Copy(c.Response().Header(), whole.Header)
			return c.Blob(http.StatusOK, kind, whole.Body)
		})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("open http://%s\n", listener.Addr())
	return http.Serve(listener, e) //nolint:gosec // it serves a benchmark on the loopback interface
}
