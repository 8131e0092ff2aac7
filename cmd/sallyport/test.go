package main

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sallyport-authz/sallyport/authz/gate"
)

func newTest() *cobra.Command {
	var file, format string
	cmd := &cobra.Command{
		Use:   "test -c FILE [TESTFILE...]",
		Short: "Run policy tests, and list the rules that no test reached",
		Long: `Test runs the tests that the policies of a configuration name, or those of the
files given, without network. A test asks as a server would be asked, with a
subject in place of a token. Revocations do not count.

Exit status: 0 if all tests pass, 1 if one fails, 2 if the configuration, a
policy or a test file does not load.`,
		Example: `  sallyport test -c sallyport.yaml
  sallyport test -c sallyport.yaml -o junit policies/orders/*.test.yaml > report.xml`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needConfig(cmd, file); err != nil {
				return err
			}
			write, ok := map[string]func(io.Writer, *gate.TestReport) error{
				"text": writeTestText, "json": writeJSON[*gate.TestReport], "junit": writeJUnit,
			}[format]
			if !ok {
				return exitError{exitConfig, fmt.Errorf("-o %q is not text, json or junit", format)}
			}
			report, err := gate.Test(cmd.Context(), file, args)
			if err != nil {
				return err
			}
			if err := write(cmd.OutOrStdout(), report); err != nil {
				return exitError{exitRuntime, err}
			}
			if len(report.Tests) == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "sallyport: there are no tests: name some under policies.NAME.tests, or give files")
			}
			if report.Failed > 0 {
				return exitError{exitFinding, nil}
			}
			return nil
		},
	}
	configFlag(cmd, &file)
	outputFlag(cmd, &format, "text, json or junit")
	return cmd
}

// outputFlag adds -o to a command that writes in several formats.
func outputFlag(cmd *cobra.Command, format *string, words string) {
	cmd.Flags().StringVarP(format, "output", "o", "text", "`FORMAT` of the output: "+words)
}

func writeJSON[T any](w io.Writer, v T) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func writeTestText(w io.Writer, r *gate.TestReport) error {
	for _, t := range r.Tests {
		if !t.Passed {
			fmt.Fprintf(w, "FAIL %s:%d: %s: %s\n", t.File, t.Line, t.Name, t.Message)
		}
	}
	fmt.Fprintf(w, "%d passed, %d failed\n", r.Passed, r.Failed)
	if len(r.Unreached) == 0 {
		return nil
	}
	fmt.Fprintln(w, "rules that no test reached:")
	for _, u := range r.Unreached {
		fmt.Fprintf(w, "  %s: %s: %s\n", u.Policy, u.Rule, u.Text)
	}
	if r.More > 0 {
		fmt.Fprintf(w, "  and %d more\n", r.More)
	}
	return nil
}

// The JUnit format as CI systems read it: a suite for each file.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		File    string        `xml:"file,attr"`
		Line    int           `xml:"line,attr"`
		Failure *junitFailure `xml:"failure"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
	}
)

func writeJUnit(w io.Writer, r *gate.TestReport) error {
	all := junitSuites{Tests: len(r.Tests), Failures: r.Failed}
	for _, t := range r.Tests {
		if n := len(all.Suites); n == 0 || all.Suites[n-1].Name != t.File {
			all.Suites = append(all.Suites, junitSuite{Name: t.File})
		}
		s := &all.Suites[len(all.Suites)-1]
		c := junitCase{Name: t.Name, Class: t.Policy, File: t.File, Line: t.Line}
		if !t.Passed {
			c.Failure = &junitFailure{t.Message}
			s.Failures++
		}
		s.Tests++
		s.Cases = append(s.Cases, c)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
