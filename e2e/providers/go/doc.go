// Package providers holds Hark's verification schemes against the code of those whose
// schemes they are: official libraries for Go, here, and for Node, in ../npm, which a
// judge program runs. They sign what Hark must accept, they verify what Hark signs,
// and what has any byte changed is refused by both.
//
// It is a module of its own, so that none of them is in Hark's build.
package providers
