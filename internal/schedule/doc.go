// Package schedule keeps events that are to be published later, and publishes them when due.
package schedule
