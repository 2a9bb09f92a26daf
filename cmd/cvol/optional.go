package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

// optionalWord is a flag whose value may be left out, as python-cinderclient takes it: `--lock-volume`,
// `--lock-volume True`, `--lock-volume=False`.
type optionalWord bool

func (w *optionalWord) String() string {
	if *w {
		return "True"
	}
	return "False"
}

// Set takes what Cinder takes for a boolean.
func (w *optionalWord) Set(s string) error {
	b, err := client.ParseBool(s)
	*w = optionalWord(b)
	return err
}

// Type is the name of the value in the help.
func (w *optionalWord) Type() string { return "[True|False]" }

// joinOptional makes one word of each such flag and its value, "--flag=value". The flag's own parser cannot know whether
// the next word is its value or the volume: it is the value only if it is True or False.
func joinOptional(root *cobra.Command, args []string) []string {
	command, _, err := root.Find(args)
	if err != nil {
		return args
	}
	var joined []string
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--":
			return append(joined, args[i:]...)
		case !isOptionalWord(command, args[i]):
			joined = append(joined, args[i])
		case i+1 < len(args) && (args[i+1] == "True" || args[i+1] == "False"):
			joined = append(joined, args[i]+"="+args[i+1])
			i++
		default:
			joined = append(joined, args[i]+"=True")
		}
	}
	return joined
}

// isOptionalWord says that the word is such a flag of the command, without a value.
func isOptionalWord(command *cobra.Command, word string) bool {
	name, ok := strings.CutPrefix(word, "--")
	if !ok {
		return false
	}
	flag := command.Flags().Lookup(name)
	if flag == nil {
		return false
	}
	_, ok = flag.Value.(*optionalWord)
	return ok
}
