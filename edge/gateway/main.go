// Command foremesh-gateway is the front door of a site: Gateway API routes from files, to Dapr apps and plain services.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/foremesh/foremesh/edge/gateway/internal/settings"
)

const usage = `usage: foremesh-gateway [--config DIR]           serve the routes of a folder
       foremesh-gateway check [--json] DIR         say what is wrong with a folder, in which file, at which line;
                                                   exit 0: nothing, 1: something, 2: it could not be looked at
       foremesh-gateway explain [--config DIR] --request "GET http://host/path" [--header name=value]... [--json]
                                                   say which route matches a request, and why the others do not
       foremesh-gateway -settings                  print the settings as JSON

Everything else is set in the environment:
`

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "check":
			os.Exit(check(os.Args[2:], os.Stdout, os.Stderr))
		case "explain":
			os.Exit(explain(os.Args[2:], os.Stdout, os.Stderr))
		}
	}
	os.Exit(serveCommand())
}

func serveCommand() int {
	flags := flag.NewFlagSet("foremesh-gateway", flag.ContinueOnError)
	flags.Usage = func() { help(flags.Output()) }
	list := flags.Bool("settings", false, "print the settings as JSON")
	folder := flags.String("config", "", "folder of routes, instead of FOREMESH_ROUTES")
	switch err := flags.Parse(os.Args[1:]); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		fmt.Fprintf(os.Stderr, "foremesh-gateway: '%s' is no command; use check or explain, or nothing to serve\n", flags.Arg(0))
		return 2
	}
	if *list {
		if err := settings.JSON(os.Stdout); err != nil {
			return 1
		}
		return 0
	}
	if err := run(*folder); err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		return 1
	}
	return 0
}

func help(w io.Writer) {
	fmt.Fprint(w, usage)
	settings.List(w)
}
