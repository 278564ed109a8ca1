package views

import (
	"fmt"
	"io"
	"slices"
	"testing"
)

func BenchmarkDashboard(b *testing.B) {
	page := hostileDashboard("fresh")
	page.History.Recent = slices.Repeat(page.History.Recent, 20)
	for _, n := range []int{1, 200} {
		page.Timeline = long(n, 0)
		b.Run(fmt.Sprintf("generations=%d", n), func(b *testing.B) {
			for b.Loop() {
				if err := Dashboard(page).Render(b.Context(), io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
