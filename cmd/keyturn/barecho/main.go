// Command barecho is what the benchmark compares Keyturn with: an Echo server that does nothing but write the files of a
// folder, which it holds in memory, at the paths that their names say ("api_session" is /api/session).
package main

import (
	"fmt"
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
		kind := echo.MIMETextHTMLCharsetUTF8
		if content[0] == '{' {
			kind = echo.MIMEApplicationJSON
		}
		e.GET("/"+strings.ReplaceAll(file.Name(), "_", "/"), func(c echo.Context) error { return c.Blob(http.StatusOK, kind, content) })
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("open http://%s\n", listener.Addr())
	return http.Serve(listener, e) //nolint:gosec // it serves a benchmark on the loopback interface
}
