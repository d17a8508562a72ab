package main

import (
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string   `arg:"" enum:"bash,zsh,fish,words" help:"bash, zsh or fish."`
	Words []string `arg:"" optional:"" hidden:"" passthrough:""`
}

func (*completionCmd) Help() string { return "Example:\n  source <(hark completion bash)" }

// scripts ask this program for the words, so that they never grow old.
var scripts = map[string]string{
	"bash": `_hark() { COMPREPLY=($(compgen -W "$(hark completion words -- "${COMP_WORDS[@]:1:COMP_CWORD-1}")" -- "${COMP_WORDS[COMP_CWORD]}")); }
complete -o default -F _hark hark
`,
	"zsh": `#compdef hark
_hark() { compadd -- ${(f)"$(hark completion words -- ${words[2,CURRENT-1]})"} || _files }
compdef _hark hark
`,
	"fish": `complete -c hark -a '(hark completion words -- (commandline -opc)[2..])'
`,
}

func (c *completionCmd) Run(a *app) error {
	if script, ok := scripts[c.Shell]; ok {
		a.printf("%s", script)
		return nil
	}
	node := a.model.Node
	for _, word := range c.Words {
		if child := childOf(node, word); child != nil {
			node = child
		}
	}
	var words []string
	for _, child := range node.Children {
		if !child.Hidden {
			words = append(words, child.Name)
		}
	}
	for _, group := range node.AllFlags(true) {
		for _, f := range group {
			words = append(words, "--"+f.Name)
		}
	}
	a.printf("%s\n", strings.Join(words, "\n"))
	return nil
}

func childOf(n *kong.Node, word string) *kong.Node {
	for _, child := range n.Children {
		if child.Name == word {
			return child
		}
		if slices.Contains(child.Aliases, word) {
			return child
		}
	}
	return nil
}
