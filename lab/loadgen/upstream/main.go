// Command upstream is what the gateway's bench puts behind every proxy: it answers at once, with the two headers that the
// proxies' filters set and remove, so that a right answer proves that the filters ran.
//
//	upstream PORT
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/valyala/fasthttp"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "upstream: give the port to listen on")
		os.Exit(2)
	}
	server := &fasthttp.Server{
		Handler:               answer,
		NoDefaultServerHeader: true,
		ReadTimeout:           time.Minute,
		WriteTimeout:          10 * time.Second,
		MaxRequestBodySize:    1 << 20,
	}
	if err := server.ListenAndServe("127.0.0.1:" + os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "upstream: port %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

func answer(c *fasthttp.RequestCtx) {
	c.SetContentType("application/json")
	_, _ = fmt.Fprintf(c, `{"site":%q,"debug":%q}`, c.Request.Header.Peek("X-Site"), c.Request.Header.Peek("X-Debug"))
}
