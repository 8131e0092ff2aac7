package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sallyport-authz/sallyport/authz/gate"
)

func newCheck() *cobra.Command {
	var file string
	var strict bool
	cmd := &cobra.Command{
		Use:   "check -c FILE",
		Short: "Load all that serve would load, without network, and list what is wrong",
		Long: `Check reads the configuration, compiles routes and expressions, loads models
and rules, lists every problem at once as FILE:LINE: KEY: message, and runs the
tests that policies name.

Exit status: 0 if serve would start, 1 if a policy test fails, or if there are
warnings and --strict is given, 2 if the configuration, a model or rules do not
load.`,
		Example: `  sallyport check -c sallyport.yaml
  sallyport check -c sallyport.yaml --strict`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needConfig(cmd, file); err != nil {
				return err
			}
			report, err := gate.Check(file)
			for _, w := range report.Warnings {
				w.Message = "warning: " + w.Message
				fmt.Fprintf(cmd.ErrOrStderr(), "%s\n", w)
			}
			if err != nil {
				return err
			}
			if len(report.Failed) > 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), report.Failed.Error())
				return exitError{exitFinding, fmt.Errorf("%d policy tests failed", len(report.Failed))}
			}
			if strict && len(report.Warnings) > 0 {
				return exitError{exitFinding, fmt.Errorf("%d warnings, and --strict was given", len(report.Warnings))}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: ok (%s)\n", file, report)
			return nil
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&strict, "strict", false, "make warnings fail")
	return cmd
}
