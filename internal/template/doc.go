// Package template is text with placeholders: how the owner of a chat room says what
// happened. It is pure: no I/O, no clock. The templates of sources (package ingest)
// write paths in the same way, but read a body that they do not keep, and make topics.
//
//	{body.user.name|default:somebody} paid {body.amount} ({topic})
//
// # Syntax
//
// A placeholder is a path in braces: names with dots between them, of which the first
// says where to look (body, header, attributes, topic, …: what there is, the reader of
// the template says). Names are made of letters, digits, "_", "-" and "$"; a name that
// is a number counts an array's elements from 0. "{{" and "}}" are braces themselves.
//
// After the path may stand helpers, each with "|" before it, applied from left to
// right; [Helpers] lists them. An argument follows ":" and reaches to the next "|" or
// "}"; what a text looks like there is what it is, without quotes.
//
// What a path does not find is nothing, and nothing is the empty text.
//
// # Limits
//
// A template has at most [MaxBytes] bytes and [MaxPlaceholders] placeholders, and each
// of them becomes at most [MaxValue] bytes. Expanding never fails and never runs
// anything: there are no loops and no calls.
package template
