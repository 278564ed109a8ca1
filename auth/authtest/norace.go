//go:build !race

package authtest

// Race says whether the tests were built with the race detector.
const Race = false
