package handlers

import (
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// readyTimeout bounds the look at what requests need.
const readyTimeout = 2 * time.Second

// healthz says that the process is up.
func (a *app) healthz(c echo.Context) error {
	return c.JSON(http.StatusOK, map[string]string{"status": "ok"})
}

// readyz says whether requests should come here, and what fails if not. Why it fails is in the log: this answer is public. Each parameter
// exclude names a part that is not asked for.
func (a *app) readyz(c echo.Context) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), readyTimeout)
	defer cancel()
	if failing := a.Ready(ctx, c.QueryParams()["exclude"]); len(failing) > 0 {
		return c.JSON(http.StatusServiceUnavailable, map[string]any{"status": "not ready", "failing": failing})
	}
	return c.JSON(http.StatusOK, map[string]string{"status": "ready"})
}
