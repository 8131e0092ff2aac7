package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"time"
)

// refused is the step whose refusal the tour explains.
var refused = steps[6]

// why shows how somebody who was refused finds out: by the decision's id, and
// by asking the policy again.
func (s *stage) why(ctx context.Context, w io.Writer) error {
	a, err := s.ask(ctx, refused)
	if err != nil {
		return err
	}
	var problem struct{ Decision string }
	if err := json.Unmarshal([]byte(a.body), &problem); err != nil || a.status != http.StatusForbidden {
		return fmt.Errorf("%s %s answered %s", refused.method, refused.path, a)
	}
	fmt.Fprintf(w, "\nWhy was %s refused? The decision's id leads to its record, and the policy says which rule came nearest:\n", refused.user)
	for _, args := range [][]string{
		{"--decision", problem.Decision, "--audit", s.file("audit.jsonl")},
		{"--claims", s.file(refused.user + ".json"), refused.method, "http://" + s.envoy.Listener + refused.path},
	} {
		args = append([]string{"explain", "-c", s.file("sallyport.yaml")}, args...)
		text, err := s.explain(ctx, args)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "\n  %s %s\n    %s\n", s.binary, strings.Join(args, " "), strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    "))
	}
	return nil
}

// explain runs the command until it explains a refusal: records are written a
// moment after the answer.
func (s *stage) explain(ctx context.Context, args []string) (string, error) {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		out, err := exec.CommandContext(ctx, s.binary, args...).CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 1 {
			return string(out), nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return "", fmt.Errorf("%s does not explain a refusal: %w: %s", s.binary, err, out)
		}
	}
}
