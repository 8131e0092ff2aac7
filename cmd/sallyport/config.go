package main

import (
	"github.com/spf13/cobra"

	"github.com/sallyport-authz/sallyport/authz/config"
)

func newConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config schema|print",
		Short:   "Show the configuration's schema, or what a configuration comes to",
		Example: "  sallyport config schema > sallyport.schema.json\n  sallyport config print -c sallyport.yaml",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConfigSchema(), newConfigPrint())
	return cmd
}

func newConfigSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration file",
		Long: `Schema prints the JSON Schema of the configuration file. Editors complete and
check it where the file begins with a line such as
# yaml-language-server: $schema=./sallyport.schema.json`,
		Example: "  sallyport config schema > sallyport.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			schema, err := config.Schema()
			if err != nil {
				return exitError{exitRuntime, err}
			}
			_, err = cmd.OutOrStdout().Write(schema)
			return err
		},
	}
}

func newConfigPrint() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:     "print -c FILE",
		Short:   "Print the effective configuration: every key, defaults filled in, secrets masked",
		Example: "  sallyport config print -c sallyport.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needConfig(cmd, file); err != nil {
				return err
			}
			cfg, problems := config.Load(file)
			if len(problems) > 0 {
				return problems
			}
			return cfg.Print(cmd.OutOrStdout())
		},
	}
	configFlag(cmd, &file)
	return cmd
}
