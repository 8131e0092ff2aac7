package policy

import (
	"strings"
)

// lintPatterns looks at each distinct pattern of the rules once.
func (l *loader) lintPatterns(s *Snapshot) {
	for _, u := range s.matcher.uses {
		if u.field == "" {
			continue
		}
		seen, column := make([]bool, len(s.syms.vals)), s.column(u.field)
		for i := range s.rules.len() {
			yield(i)
			id := s.rules.cell(i, column)
			if seen[id] {
				continue
			}
			seen[id] = true
			if stock, fix := patternTrap(u.op, s.syms.text(id)); stock != "" {
				l.ruleWarnf("trap:"+u.op, int(s.rules.lines[i]), stock, fix, "pattern %q of %s: %s", firstWords(s.syms.text(id)), u.op, stock)
			}
		}
	}
}

// patternTrap says what a pattern does that its author may not expect.
func patternTrap(op, p string) (stock, fix string) {
	switch op {
	case "keyMatch":
		if i := strings.IndexByte(p, '*'); i >= 0 && i < len(p)-1 {
			return "everything after the first * is ignored", "use keyMatch2 or globMatch"
		}
	case "keyMatch2", "keyMatch3", "keyMatch4", "keyMatch5":
		return pathTrap(op, p)
	case "regexMatch":
		anchored := strings.HasPrefix(p, "^") && strings.HasSuffix(p, "$")
		grouped := strings.HasPrefix(p, "^(") && strings.HasSuffix(p, ")$")
		if !anchored || strings.Contains(p, "|") && !grouped {
			return "it matches anywhere in the value, GET also matches GETX", "write ^(...)$"
		}
	}
	return "", ""
}

// pathTrap is patternTrap for operators that are regular expressions in
// disguise.
func pathTrap(op, p string) (stock, fix string) {
	switch {
	case strings.HasPrefix(p, "*"):
		return "it matches any path that contains the rest", "start with /"
	case strings.IndexByte(p, '?') >= 0:
		return "? makes the character before it optional; a path has no query here", "write the path alone"
	case strings.IndexByte(p, '|') >= 0:
		return "the alternatives are anchored on one side only", "write two rules"
	case op == "keyMatch2" && strings.IndexByte(p, '{') >= 0:
		return "{name} is no parameter here", "write :name, or use keyMatch3"
	case op != "keyMatch2" && strings.Contains(p, "/:"):
		return ":name is no parameter here", "write {name}, or use keyMatch2"
	case strings.IndexByte(p, '+') >= 0:
		return "+ repeats the character before it", `write \+`
	}
	for i := range len(p) {
		before := byte('/')
		if i > 0 {
			before = p[i-1]
		}
		switch {
		case p[i] == '*' && before != '/':
			return "* repeats the character before it", "write /*"
		case p[i] == '.' && before != '\\':
			return ". matches any character", `write \.`
		case op == "keyMatch2" && p[i] == ':' && before != '/':
			return "everything from : to the next / is a parameter, and matches any text", "use keyMatch3, where : is a character like others"
		}
	}
	return "", ""
}
