package views

import (
	"io"
	"testing"
)

func BenchmarkDashboard(b *testing.B) {
	page := hostileDashboard("fresh")
	for range 19 {
		page.History.Recent = append(page.History.Recent, page.History.Recent[0])
	}
	for b.Loop() {
		if err := Dashboard(page).Render(b.Context(), io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
