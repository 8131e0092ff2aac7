package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/sallyport-authz/sallyport/authz/config"
	"github.com/sallyport-authz/sallyport/authz/gate"
)

func newServe() *cobra.Command {
	var file, level, format string
	cmd := &cobra.Command{
		Use:   "serve -c FILE",
		Short: "Answer Envoy's checks until told to stop",
		Long: `Serve loads the configuration and its policies, listens for Envoy's ext_authz
checks by gRPC and for operators on the admin listener, and reloads what
changes on disk. SIGHUP reloads at once; SIGTERM drains and exits.

Traces and metrics are exported where the OTEL_* environment says so.

Exit status: 0 after a drain, 2 if the configuration or a policy does not
load, 3 if the server cannot run (a taken port).`,
		Example: `  sallyport serve -c sallyport.yaml
  OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 sallyport serve -c sallyport.yaml --log-format json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needConfig(cmd, file); err != nil {
				return err
			}
			log, err := newLog(cmd.ErrOrStderr(), level, format)
			if err != nil {
				return exitError{exitConfig, err}
			}
			err = gate.Serve(cmd.Context(), file, cmd.OutOrStdout(), log, buildVersion())
			var problems config.Problems
			if err == nil || errors.As(err, &problems) {
				return err
			}
			return exitError{exitRuntime, err}
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&level, "log-level", "info", "least `LEVEL` that is logged: debug, info, warn or error")
	cmd.Flags().StringVar(&format, "log-format", "text", "`FORMAT` of the log on stderr: text or json")
	return cmd
}

func newLog(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	switch level {
	case "debug", "info", "warn", "error":
		if err := l.UnmarshalText([]byte(level)); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("--log-level %q is not debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("--log-format %q is not text or json", format)
}
