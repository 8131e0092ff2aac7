package policy

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxRulesFile bounds a rules file. A million rules take about 60 MiB.
	maxRulesFile = 512 << 20
	// maxLine is the longest line that Casbin's file adapter reads, the
	// default of bufio.Scanner.
	maxLine = 64<<10 - 1
)

// A table holds the rules of one type, p or g2 for example, in order. A rule
// is a row of symbol numbers.
type table struct {
	key   string
	width int
	cells []uint32
	lines []uint32
	seen  *rowSet // nil after the load
}

func (t *table) len() int             { return len(t.lines) }
func (t *table) row(i int) []uint32   { return t.cells[i*t.width : (i+1)*t.width] }
func (t *table) cell(i, c int) uint32 { return t.cells[i*t.width+c] }

// add appends a row, unless it is there already: then it returns the line of
// the first. Rows are compared field by field; Casbin joins them with commas,
// so that "a,b",c and a,"b,c" are one rule to it.
func (t *table) add(row []uint32, line int) (first int) {
	t.cells = append(t.cells, row...)
	t.lines = append(t.lines, uint32(line)) //nolint:gosec // bounded by maxRulesFile
	if i, ok := t.seen.add(len(t.lines) - 1); ok {
		t.cells, t.lines = t.cells[:len(t.cells)-t.width], t.lines[:len(t.lines)-1]
		return int(t.lines[i])
	}
	return 0
}

// reorder puts the rows into the order of their old indexes.
func (t *table) reorder(order []int) {
	cells := make([]uint32, 0, len(t.cells))
	lines := make([]uint32, 0, len(t.lines))
	for _, i := range order {
		cells = append(cells, t.row(i)...)
		lines = append(lines, t.lines[i])
	}
	t.cells, t.lines = cells, lines
}

// A reader reads a rules file once, line by line.
type reader struct {
	model  *modelFile
	name   string
	syms   *symbols
	tables map[string]*table
	eft    map[string]int // column of eft by rule type
	fs     *findings
	fields []string
	row    []uint32
}

func newReader(name string, mf *modelFile, syms *symbols, fs *findings) *reader {
	rd := &reader{model: mf, name: name, syms: syms, fs: fs, tables: map[string]*table{}, eft: map[string]int{}}
	for key := range mf.lines {
		t := &table{key: key}
		switch key[0] {
		case 'p':
			fields := mf.fields(key)
			t.width = len(fields)
			for i, f := range fields {
				if f == "eft" {
					rd.eft[key] = i
				}
			}
		case 'g':
			t.width = mf.roleArity(key)
		default:
			continue
		}
		columns := make([]int, t.width)
		for i := range columns {
			columns[i] = i
		}
		t.seen = newRowSet(t, columns)
		rd.tables[key] = t
	}
	return rd
}

func (rd *reader) report(kind string, sev Severity, line int, stock, fix, format string, args ...any) {
	rd.fs.add(kind, Finding{File: rd.name, Line: line, Severity: sev, Stock: stock, Fix: fix, Message: fmt.Sprintf(format, args...)})
}

// read reads the whole text.
func (rd *reader) read(text string) {
	if strings.HasPrefix(text, bom) {
		rd.report("bom", Error, 1, "the first rule fails to load", "save the file as UTF-8 without a byte order mark", "the file starts with a byte order mark")
		return
	}
	n := 0
	for line := range strings.Lines(text) {
		yield(n)
		n++
		rd.line(strings.TrimRight(line, "\r\n"), n)
	}
	for _, t := range rd.tables {
		t.seen = nil
	}
}

func (rd *reader) line(line string, n int) {
	if len(line) > maxLine {
		rd.report("long", Error, n, "loading stops with \"token too long\"", "", "the line has %d bytes, more than %d", len(line), maxLine)
		return
	}
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return
	}
	switch {
	case strings.IndexByte(line, 0) >= 0:
		rd.report("nul", Error, n, "", "", "the line holds a NUL byte")
		return
	case !utf8.ValidString(line):
		rd.report("utf8", Error, n, "", "save the file as UTF-8", "the line is not valid UTF-8")
		return
	}
	quoted := strings.IndexByte(line, '"') >= 0
	if !rd.split(line, quoted, n) {
		return
	}
	rd.rule(n, quoted)
}

// split cuts a line into fields as encoding/csv does with leading space
// trimmed; only lines with quotes need that package.
func (rd *reader) split(line string, quoted bool, n int) bool {
	if !quoted {
		rd.fields = rd.fields[:0]
		for more := true; more; {
			var f string
			f, line, more = strings.Cut(line, ",")
			rd.fields = append(rd.fields, strings.TrimLeftFunc(f, unicode.IsSpace))
		}
		return true
	}
	r := csv.NewReader(strings.NewReader(line))
	r.Comment, r.TrimLeadingSpace = '#', true
	fields, err := r.Read()
	if err == nil {
		if _, extra := r.Read(); extra != io.EOF {
			err = extra
		}
	}
	if err != nil {
		msg := err.Error()
		if _, after, ok := strings.Cut(msg, ": "); ok {
			msg = after
		}
		rd.report("csv", Error, n, "loading stops here, or the line is skipped", `a field with commas or quotes is written "...", with inner quotes doubled, or use single quotes inside`, "malformed CSV: %s", msg)
		return false
	}
	rd.fields = fields
	return true
}

// rule checks one line's fields and adds it to its table.
func (rd *reader) rule(n int, quoted bool) {
	key := strings.TrimRightFunc(rd.fields[0], unicode.IsSpace)
	t := rd.tables[key]
	if t == nil {
		known := make([]string, 0, len(rd.tables))
		for k := range rd.tables {
			known = append(known, k)
		}
		switch {
		case key == "":
			rd.report("type", Error, n, "the process panics", "start the line with p or g", "the line starts with a comma: the rule has no type")
		case len(rd.fields) == 1:
			rd.report("type", Error, n, "loading fails", "start comments with #, rules with a type and a comma", "%q is no rule", firstWords(key))
		default:
			rd.report("type", Error, n, "loading fails", suggest(key, known), "unknown rule type %q: the model does not define it", key)
		}
		return
	}
	values := rd.fields[1:]
	if len(values) != t.width {
		stock := "loading fails"
		if key[0] == 'g' && len(values) > t.width {
			stock = "the extra columns are dropped: a grant for one domain becomes a grant everywhere"
		}
		rd.report("columns", Error, n, stock, rd.columns(key), "%s takes %d columns, this rule has %d", key, t.width, len(values))
		return
	}
	deny, ok := rd.effect(key, values, n)
	if !ok {
		return
	}
	if !quoted {
		for i, v := range values {
			rd.suspect(v, i, deny, n)
		}
	}
	rd.row = rd.row[:0]
	for _, v := range values {
		rd.row = append(rd.row, rd.syms.intern(v))
	}
	if first := t.add(rd.row, n); first != 0 {
		rd.report("duplicate", Warning, n, "the rule is skipped", "delete the line", "the rule stands in line %d already", first)
	}
}

// columns names the columns of a rule type.
func (rd *reader) columns(key string) string {
	if key[0] == 'p' {
		return "write " + key + ", " + strings.Join(rd.model.fields(key), ", ")
	}
	if rd.tables[key].width == 2 {
		return "write " + key + ", NAME, ROLE"
	}
	return "write " + key + ", NAME, ROLE, DOMAIN"
}

// effect reads the eft column.
func (rd *reader) effect(key string, values []string, n int) (deny, ok bool) {
	col, has := rd.eft[key]
	if !has {
		return false, true
	}
	switch values[col] {
	case "allow":
		return false, true
	case "deny":
		return true, true
	}
	rd.report("eft", Error, n, "the rule is ignored: what it denies is not denied", "write allow or deny, in lower case", "eft is %q, not allow or deny", firstWords(values[col]))
	return false, false
}

// suspect complains about a field that is legal and hardly meant. In a rule
// that denies this is an error: the rule would deny nobody.
func (rd *reader) suspect(v string, i int, deny bool, n int) {
	sev := Warning
	if deny {
		sev = Error
	}
	switch {
	case v == "":
		rd.report("empty", Warning, n, "the field matches the empty string", "", "column %d is empty", i+1)
	case v[len(v)-1] <= ' ' || unicode.IsSpace(lastRune(v)):
		rd.report("space", sev, n, "only leading spaces are trimmed: the rule never matches", "delete the space, or quote the field if it is meant", "column %d, %q, ends with a space", i+1, firstWords(v))
	case strings.Contains(v, " #"):
		rd.report("note", sev, n, "the text is part of the field: the rule never matches", "put the comment on a line of its own", "column %d, %q, holds what looks like a comment", i+1, firstWords(v))
	case len(v) > 1 && v[0] == '\'' && v[len(v)-1] == '\'':
		rd.report("quote", sev, n, "the quotes are part of the value", "delete the quotes", "column %d, %s, is in single quotes", i+1, firstWords(v))
	}
}

func lastRune(s string) rune {
	r, _ := utf8.DecodeLastRuneInString(s)
	return r
}
