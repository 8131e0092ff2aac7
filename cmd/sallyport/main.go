// Command sallyport is an external authorization server for Envoy: it
// validates OIDC tokens, applies Casbin models and answers ext_authz checks.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	_ "time/tzdata" // for expressions that name a time zone, in images without any

	"github.com/spf13/cobra"

	"github.com/sallyport-authz/sallyport/authz/config"
)

// The exit statuses of all commands.
const (
	exitOK      = 0
	exitFinding = 1 // warnings under --strict, a failed test, a denial
	exitConfig  = 2 // the command line, the configuration, a model or rules do not load
	exitRuntime = 3 // a taken port, a listener that broke
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command line and returns its exit status. Data goes to
// stdout, talk to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var problems config.Problems
	var status exitError
	switch {
	case errors.As(err, &problems):
		fmt.Fprintln(stderr, problems.Error())
		return exitConfig
	case errors.As(err, &status):
		if status.err != nil {
			fmt.Fprintf(stderr, "sallyport: %v\n", status.err)
		}
		return status.code
	}
	fmt.Fprintf(stderr, "sallyport: %v\n", err)
	return exitConfig // what is left are mistakes on the command line
}

// An exitError carries the exit status of a command. err may be nil where
// all has been said.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string { return fmt.Sprintf("exit status %d: %v", e.code, e.err) }

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "sallyport",
		Short: "External authorization for Envoy: OIDC tokens, Casbin policies, decisions that explain themselves",
		Long: `Sallyport answers Envoy's ext_authz checks: it validates the OIDC token of each
request, applies ordinary Casbin models, and allows or denies with header
mutations. Nothing unknown is allowed.`,
		Example: `  sallyport check -c sallyport.yaml
  sallyport serve -c sallyport.yaml`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(newServe(), newCheck(), newTest(), newExplain(), newConfig(), newVersion())
	root.InitDefaultCompletionCmd() // after SetOut: it keeps the writer
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Example = `  sallyport completion bash > /etc/bash_completion.d/sallyport`
			c.Args = cobra.NoArgs
			c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			for _, shell := range c.Commands() {
				shell.Example = "  sallyport completion " + shell.Name()
			}
		}
	}
	return root
}

// configFlag adds -c to a command that needs a configuration.
func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", "", "configuration `FILE`")
}

// needConfig says so where -c is missing.
func needConfig(cmd *cobra.Command, file string) error {
	if file == "" {
		return exitError{exitConfig, fmt.Errorf("%s needs a configuration: -c FILE", strings.TrimPrefix(cmd.CommandPath(), "sallyport "))}
	}
	return nil
}
