package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/casbin/casbin/v2/constant"
	"github.com/casbin/casbin/v2/model"
)

const (
	// maxModel bounds a model file. Real ones are under 2 KiB.
	maxModel = 1 << 20
	// maxModelLine is the length of line beyond which Casbin's parser reads
	// the remainder as a line of its own (the buffer of its bufio.Reader).
	maxModelLine = 4095
)

// sections are the sections of a model in Casbin's spelling, with the letter
// that their keys start with.
var sections = map[string]string{
	"request_definition": "r",
	"policy_definition":  "p",
	"role_definition":    "g",
	"policy_effect":      "e",
	"matchers":           "m",
}

// effects are the policy effects that Casbin knows, as its parser leaves them.
var effects = []string{
	constant.AllowOverrideEffect, constant.DenyOverrideEffect, constant.AllowAndDenyEffect,
	constant.PriorityEffect, constant.SubjectPriorityEffect,
}

// A modelFile is a model as Casbin parsed it, and where its definitions stand.
type modelFile struct {
	casbin model.Model
	lines  map[string]int    // key, for example "m2", to its line
	raw    map[string]string // key to its text as it stands, continued lines joined
	name   string
	fs     *findings
}

var (
	keyName   = regexp.MustCompile(`^([rpgem])([2-9]|[1-9][0-9]+)?$`)
	fieldName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)
	roleDef   = regexp.MustCompile(`^_(\s*,\s*_)+$`)
)

// parseModel reads a model strictly: what Casbin would skip, cut or overwrite
// without a word is an error. It returns nil if there is one.
func parseModel(name, text string, fs *findings) *modelFile {
	mf := &modelFile{name: name, fs: fs, lines: map[string]int{}, raw: map[string]string{}}
	mf.scan(text)
	if fs.failed() {
		return nil
	}
	m, err := casbinModel(text)
	if err != nil {
		mf.errorf("model", 1, "", "", "%s", firstLine(err))
		return nil
	}
	mf.casbin = m
	if mf.compare(); fs.failed() {
		return nil
	}
	mf.checkDefinitions()
	if fs.failed() {
		return nil
	}
	return mf
}

// casbinModel survives a parser that panics.
func casbinModel(text string) (m model.Model, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the model cannot be parsed: %v", v)
		}
	}()
	return model.NewModelFromString(text)
}

func (mf *modelFile) errorf(kind string, line int, stock, fix, format string, args ...any) {
	mf.fs.add(kind, Finding{File: mf.name, Line: line, Severity: Error, Stock: stock, Fix: fix, Message: fmt.Sprintf(format, args...)})
}

func (mf *modelFile) warnf(kind string, line int, stock, fix, format string, args ...any) {
	mf.fs.add(kind, Finding{File: mf.name, Line: line, Severity: Warning, Stock: stock, Fix: fix, Message: fmt.Sprintf(format, args...)})
}

// scan walks the lines as Casbin's parser does, and complains where that
// parser would not.
func (mf *modelFile) scan(text string) {
	if len(text) > maxModel {
		mf.errorf("size", 1, "", "", "the model has %d bytes, more than %d", len(text), maxModel)
		return
	}
	if strings.TrimSpace(text) == "" {
		mf.errorf("empty", 1, "", "", "the model is empty")
		return
	}
	if strings.HasPrefix(text, bom) {
		mf.errorf("bom", 1, "the first section is not recognised", "save the file as UTF-8 without a byte order mark", "the file starts with a byte order mark")
		return
	}
	var section, pending string
	start := 0
	flush := func() {
		if pending != "" {
			mf.definition(section, pending, start)
		}
		pending, start = "", 0
	}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.ContainsRune(line, 0):
			mf.errorf("nul", n, "", "", "the line holds a NUL byte")
			continue
		case len(line) > maxModelLine:
			mf.errorf("long", n, "the line is read as several", `split it with a trailing \`, "the line has %d bytes, more than %d", len(line), maxModelLine)
			continue
		}
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
			flush()
		case line[0] == '[' && line[len(line)-1] == ']':
			flush()
			section = mf.section(line[1:len(line)-1], n)
		default:
			if start == 0 {
				start = n
			}
			if cut := quotedComment(line); cut >= 0 {
				mf.errorf("comment", n, fmt.Sprintf("the text is cut before %q", line[cut:]), "move the value into a policy field", "%q inside a string starts a comment", line[cut])
			}
			body, more := strings.CutSuffix(line, `\`)
			if i := strings.IndexAny(body, "#;"); i >= 0 {
				body = body[:i]
			}
			pending += strings.TrimSpace(body) + " "
			if !more {
				flush()
			}
		}
	}
	flush()
	for _, s := range []string{"request_definition", "policy_definition", "policy_effect", "matchers"} {
		if mf.lines[sections[s]] == 0 && !mf.fs.failed() {
			mf.errorf("missing", 1, "the model does not load", "", "section [%s] defines no %s", s, sections[s])
		}
	}
}

// quotedComment returns where a # or ; inside a string literal stands, or -1.
func quotedComment(line string) int {
	var quote byte
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote == 0 && (c == '#' || c == ';'):
			return -1 // a comment, as it was meant
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0 && (c == '#' || c == ';'):
			return i
		}
	}
	return -1
}

// section checks the name of a section; unknown ones are skipped by Casbin.
func (mf *modelFile) section(name string, line int) string {
	if _, ok := sections[name]; !ok {
		known := make([]string, 0, len(sections))
		for s := range sections {
			known = append(known, s)
		}
		mf.errorf("section", line, "the section is ignored", suggest(name, known), "unknown section [%s]", name)
	}
	return name
}

// definition checks one key = value.
func (mf *modelFile) definition(section, text string, line int) {
	key, value, ok := strings.Cut(text, "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	letter := sections[section]
	switch {
	case !ok:
		mf.errorf("syntax", line, "", "write KEY = VALUE", "%q is no definition", firstWords(text))
	case section == "":
		mf.errorf("section", line, "the definition is ignored", "put it below a [section]", "definition of %q stands before any section", key)
	case letter == "": // the section was refused already
	case !keyName.MatchString(key) || key[:1] != letter:
		mf.errorf("key", line, "the definition is ignored", fmt.Sprintf("use %s, %s2, %s3 and so on", letter, letter, letter), "unknown key %q in section [%s]", key, section)
	case mf.lines[key] != 0:
		mf.errorf("duplicate", line, "the last one wins", "", "%s is defined twice, first in line %d", key, mf.lines[key])
	case value == "":
		mf.errorf("value", line, "the definition is ignored", "", "%s has no value", key)
	default:
		mf.lines[key], mf.raw[key] = line, value
	}
}

// compare checks that Casbin took every definition that was read here: it
// stops at the first gap in the numbers.
func (mf *modelFile) compare() {
	for key, line := range mf.lines {
		if mf.def(key) == nil {
			mf.errorf("gap", line, "the definition is ignored", "number the keys without gaps", "%s is defined but the one before it is not", key)
		}
	}
}

// def returns the assertion of a key such as "m2", or nil.
func (mf *modelFile) def(key string) *model.Assertion { return mf.casbin[key[:1]][key] }

// fields returns the field names of a request or policy definition.
func (mf *modelFile) fields(key string) []string {
	def := mf.def(key)
	names := make([]string, len(def.Tokens))
	for i, t := range def.Tokens {
		names[i] = strings.TrimPrefix(t, key+"_")
	}
	return names
}

// roleArity returns how many columns a role definition has.
func (mf *modelFile) roleArity(key string) int { return len(mf.def(key).Tokens) }

func (mf *modelFile) checkDefinitions() {
	for key, line := range mf.lines {
		switch key[0] {
		case 'r', 'p':
			seen := map[string]bool{}
			for _, f := range mf.fields(key) {
				switch {
				case !fieldName.MatchString(f):
					mf.errorf("field", line, "the field is never found by the matcher", "use letters, digits and _", "%q is no name for a field of %s", f, key)
				case seen[f]:
					mf.errorf("field", line, "the last one wins", "", "field %q of %s is named twice", f, key)
				}
				seen[f] = true
			}
		case 'g':
			switch value := mf.def(key).Value; {
			case strings.Contains(value, "("):
				mf.errorf("conditional", line, "links hold unless a Go program registers a condition", "put the condition into the matcher, for example with eval()", "conditional roles (%s = %s) need functions in code and are not supported", key, value)
			case !roleDef.MatchString(value) || mf.roleArity(key) > 3:
				mf.errorf("role", line, "", key+" = _, _ or, with domains, "+key+" = _, _, _", "%s = %s is no role definition of two or three columns", key, value)
			}
		case 'e':
			if got := mf.def(key).Value; !slices.Contains(effects, got) {
				mf.errorf("effect", line, "every request fails with \"unsupported effect\"", suggestEffect(got), "unsupported policy effect %q", mf.raw[key])
			}
		case 'm':
			if raw := mf.raw[key]; strings.ContainsAny(raw, "[]") && strings.Contains(raw, "in") {
				mf.warnf("brackets", line, "every [ and ] in the matcher becomes ( and ), in strings too", "write lists with ( and )", "brackets in a matcher that holds the letters \"in\" are rewritten")
			}
		}
	}
}

// suggestEffect names the effect that was probably meant.
func suggestEffect(got string) string {
	squeeze := func(s string) string {
		return strings.ToLower(strings.NewReplacer(" ", "", ".", "_").Replace(s))
	}
	for _, e := range effects {
		if squeeze(e) == squeeze(got) {
			return "write exactly: " + strings.ReplaceAll(e, "p_eft", "p.eft")
		}
	}
	return "use one of: " + strings.ReplaceAll(strings.Join(effects, "; "), "p_eft", "p.eft")
}
