// Command demo is Sallyport in one minute: an issuer, an upstream that echoes,
// the built sallyport and a real Envoy, all on 127.0.0.1, with a small world to
// ask about. It prints commands to copy, with what they answer, and leaves
// nothing behind when it is told to stop.
//
// The world is in world/ and world.go, what runs in stage.go, what is said in
// tour.go, and where traces go in traces.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP,
		syscall.SIGPIPE) // a reader that goes away must not keep us from tidying up
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit status: 0 after a stop that was asked for, 1 where the
// demo cannot run, 2 for a mistake on the command line.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintf(stderr, "demo runs Sallyport, Envoy, an issuer and an upstream on 127.0.0.1.\n\n")
		flags.PrintDefaults()
		fmt.Fprintf(stderr, "\nExample:\n  make demo PORT=10001\n  ENVOY=/usr/bin/envoy bin/demo --port 10001\n")
	}
	port := flags.Int("port", 10000, "`PORT` of Envoy on 127.0.0.1; 0 picks one")
	binary := flags.String("sallyport", "bin/sallyport", "`PATH` of the sallyport to run")
	jaeger := flags.String("jaeger", usualJaeger, "`URL` of a Jaeger's pages, for links; the OTEL_* environment says where traces go")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "demo: unexpected argument %q\n", flags.Arg(0))
		return 2
	}

	s, err := newStage(ctx, *port, *binary, *jaeger)
	if err == nil {
		err = s.tour(ctx, stdout)
	}
	if err == nil {
		err = s.wait(ctx)
	}
	if ctx.Err() != nil {
		err = nil // told to stop: what was cut short is no failure
	}
	if late := s.stop(); err == nil {
		err = late
	}
	if err != nil {
		fmt.Fprintf(stderr, "demo: %v\n", err)
		return 1
	}
	return 0
}
