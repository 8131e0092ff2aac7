package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protojson"

	sallyportv1 "github.com/sallyport-authz/sallyport/proto/sallyport/v1"
)

// ErrNotFound means that no record has the id.
var ErrNotFound = errors.New("no record of this decision")

// Find reads an audit file to the record of one decision. It passes over lines
// that are no JSON or longer than any record, which a crash may have left, and
// says how many those were. Keys that it does not know are ignored: the file
// may be of a later version. Its error wraps [ErrNotFound] or that of r.
func Find(r io.Reader, id string) (rec *sallyportv1.DecisionRecord, skipped int, err error) {
	if id == "" {
		return nil, 0, fmt.Errorf("audit: %w: it has no id", ErrNotFound)
	}
	in := bufio.NewReaderSize(r, chunkSize)
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			skipped++
			line, err = nil, skipLine(in)
		}
		if len(bytes.TrimSpace(line)) > 0 {
			rec, ok := parse(line, id)
			if rec != nil {
				return rec, skipped, nil
			}
			if !ok {
				skipped++
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil, skipped, fmt.Errorf("audit: %w: %q", ErrNotFound, id)
		case err != nil:
			return nil, skipped, fmt.Errorf("audit: %w", err)
		}
	}
}

// skipLine reads to the end of a line that is too long.
func skipLine(in *bufio.Reader) error {
	for {
		_, err := in.ReadSlice('\n')
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// parse returns the record in line if it has the id, and whether line is one
// of any kind. Ids are hex, so that only lines with the bytes of one are worth
// more than a glance.
func parse(line []byte, id string) (rec *sallyportv1.DecisionRecord, ok bool) {
	if !bytes.Contains(line, []byte(id)) {
		return nil, json.Valid(line)
	}
	rec = &sallyportv1.DecisionRecord{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(line, rec); err != nil {
		return nil, false
	}
	if rec.GetDecisionId() != id {
		return nil, true
	}
	return rec, true
}
