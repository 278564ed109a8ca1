package views

import (
	"io"
	"testing"
)

func BenchmarkDashboard(b *testing.B) {
	page := hostileDashboard("fresh")
	for range 19 {
		page.History = append(page.History, page.History[0])
	}
	for b.Loop() {
		if err := Dashboard(page).Render(b.Context(), io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
