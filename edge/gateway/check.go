package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"

	"github.com/foremesh/foremesh/edge/gateway/internal/config"
	"github.com/foremesh/foremesh/edge/gateway/internal/settings"
)

// check says what is wrong with a folder. It returns 0 if nothing is, 1 if something is, 2 if it could not look.
func check(arguments []string, out, trouble io.Writer) int {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	flags.SetOutput(trouble)
	asJSON := flags.Bool("json", false, "print a list of problems as JSON")
	if code, stop := parse(flags, arguments); stop {
		return code
	}
	if flags.NArg() != 1 {
		fmt.Fprintf(trouble, "check: takes one folder, got %d; usage: foremesh-gateway check [--json] DIR\n", flags.NArg())
		return 2
	}
	s, err := settings.FromEnvironment()
	if err != nil {
		fmt.Fprintln(trouble, "check:", err)
		return 2
	}
	s.Routes = flags.Arg(0)
	loaded, err := config.Load(s.Routes, options(s))
	problems := config.Problems{}
	switch {
	case err == nil:
		problems = append(problems, loaded.Problems...)
	case !errors.As(err, &problems):
		fmt.Fprintln(trouble, "check:", err)
		return 2
	}
	if *asJSON {
		_ = json.NewEncoder(out).Encode(problems)
	} else {
		for _, p := range problems {
			word := "warning: "
			if p.Refused {
				word = ""
			}
			p.Text = word + p.Text
			fmt.Fprintln(out, p)
		}
	}
	if len(problems) > 0 {
		return 1
	}
	return 0
}

// parse reads flags; stop with an exit code if there is no more to do.
func parse(flags *flag.FlagSet, arguments []string) (code int, stop bool) {
	// The folder may come before the flags.
	if len(arguments) > 1 && !slices.Contains([]string{"", "-"}, arguments[0][:min(1, len(arguments[0]))]) {
		arguments = append(slices.Clone(arguments[1:]), arguments[0])
	}
	switch err := flags.Parse(arguments); {
	case errors.Is(err, flag.ErrHelp):
		return 0, true
	case err != nil:
		return 2, true
	}
	return 0, false
}
