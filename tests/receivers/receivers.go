// Package receivers pins the receivers that the tests build from the Go module proxy: see the tool line of go.mod.
package receivers
