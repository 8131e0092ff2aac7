package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-authz/sallyport/authz/gate"
)

// maxTokenFile bounds a file of claims or with a token. A token may have
// 16 KiB.
const maxTokenFile = 64 << 10

func newExplain() *cobra.Command {
	var file, format, claims, token, decision, audit string
	var headers []string
	cmd := &cobra.Command{
		Use: `explain -c FILE [--claims FILE | --token-file FILE] [--header K:V ...] METHOD URL
  sallyport explain -c FILE --decision ID --audit FILE`,
		Short: "Explain one decision, step by step",
		Long: `Explain decides one request as a server would, and says why: the route, the
subject, the arguments to Casbin, the rule that decided or those that came
nearest, and the answer that Envoy would get. The URL is absolute.

Claims are a JSON payload that is taken as verified; its iss picks the issuer.
A token in a file is verified, for which the keys of its issuer are fetched.
With neither, the request comes as its headers say.

A decision that an audit log holds is explained by its id, with what has changed
since.

Exit status: 0 for an allow, 1 for a deny, 2 if something does not load.`,
		Example: `  sallyport explain -c sallyport.yaml GET https://api.example.com/v1/orders
  sallyport explain -c sallyport.yaml --claims ada.json --header 'x-region: eu' DELETE https://api.example.com/v1/orders/7
  sallyport explain -c sallyport.yaml --token-file token -o json GET https://api.example.com/v1/orders
  sallyport explain -c sallyport.yaml --decision 63284b6a2bb31fea829b4cf29e792f9e --audit audit.jsonl`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch err := needConfig(cmd, file); {
			case err != nil:
				return err
			case decision != "" && len(args) > 0:
				return fmt.Errorf("--decision explains a recorded request: %q is one too many", args[0])
			case decision == "" && len(args) != 2:
				return fmt.Errorf("explain takes METHOD URL, or --decision ID --audit FILE; it got %d words", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needConfig(cmd, file); err != nil {
				return err
			}
			write, ok := map[string]func(io.Writer, *gate.Explanation) error{
				"text": writeExplanation, "json": writeJSON[*gate.Explanation],
			}[format]
			if !ok {
				return exitError{exitConfig, fmt.Errorf("-o %q is not text or json", format)}
			}
			var x *gate.Explanation
			var err error
			if decision != "" {
				x, err = gate.Recall(file, audit, decision)
			} else {
				q := gate.Question{Method: args[0], URL: args[1], Headers: headers}
				if err := readQuestion(&q, claims, token); err != nil {
					return exitError{exitConfig, err}
				}
				x, err = gate.Explain(cmd.Context(), file, q)
			}
			if err != nil {
				return err
			}
			if err := write(cmd.OutOrStdout(), x); err != nil {
				return exitError{exitRuntime, err}
			}
			if x.Decision != "allow" {
				return exitError{exitFinding, nil}
			}
			return nil
		},
	}
	configFlag(cmd, &file)
	outputFlag(cmd, &format, "text or json")
	cmd.Flags().StringVar(&claims, "claims", "", "`FILE` with the JSON payload of a token, taken as verified")
	cmd.Flags().StringVar(&token, "token-file", "", "`FILE` with a token, to be verified")
	cmd.Flags().StringArrayVar(&headers, "header", nil, "header of the request, `K:V`; may be repeated")
	cmd.Flags().StringVar(&decision, "decision", "", "`ID` of a recorded decision")
	cmd.Flags().StringVar(&audit, "audit", "", "audit `FILE` that holds it")
	cmd.MarkFlagsMutuallyExclusive("claims", "token-file", "decision")
	cmd.MarkFlagsMutuallyExclusive("header", "decision")
	cmd.MarkFlagsRequiredTogether("decision", "audit")
	return cmd
}

// readQuestion reads what flags name.
func readQuestion(q *gate.Question, claims, token string) error {
	var err error
	if claims != "" {
		if q.Claims, err = readSmall(claims); err != nil {
			return fmt.Errorf("--claims: %w", err)
		}
	}
	if token != "" {
		text, err := readSmall(token)
		if err != nil {
			return fmt.Errorf("--token-file: %w", err)
		}
		if q.Token = strings.TrimSpace(string(text)); q.Token == "" {
			return fmt.Errorf("--token-file: %s is empty", token)
		}
	}
	return nil
}

func readSmall(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxTokenFile:
		return nil, fmt.Errorf("%s has more than %d bytes", name, maxTokenFile)
	}
	return data, nil
}
