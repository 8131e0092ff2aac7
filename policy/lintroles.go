package policy

import (
	"fmt"
	"strings"
)

// A roleUse is where expressions ask a role definition for roles.
type roleUse struct {
	columns []int    // of the rules
	consts  []string // texts in the model or in rules that eval() runs
	other   bool     // roles that are computed or come from the request
	subject bool     // names that come from the request
}

// roleUses finds every call of a role function.
func (s *Snapshot) roleUses() map[string]*roleUse {
	uses := map[string]*roleUse{}
	note := func(t *term) {
		if t.kind != termCall || s.graphs[t.name] == nil {
			return
		}
		u := uses[t.name]
		if u == nil {
			u = &roleUse{}
			uses[t.name] = u
		}
		u.subject = u.subject || t.args[0].kind == termRequest
		switch role := t.args[1]; {
		case role.kind == termPolicy:
			u.columns = append(u.columns, s.column(role.name))
		case role.kind == termConst && isText(role.value):
			u.consts = append(u.consts, role.value.(string))
		default:
			u.other = true
		}
	}
	s.matcher.tree.walk(note)
	for _, x := range s.evals {
		if x != nil {
			x.tree.walk(note)
		}
	}
	return uses
}

// lintRoles looks for links and names of roles that do nothing.
func (l *loader) lintRoles(s *Snapshot, rd *reader) {
	uses := s.roleUses()
	for _, key := range sortedKeys(s.graphs) {
		t, u := rd.tables[key], uses[key]
		switch {
		case t.len() == 0:
		case u == nil:
			if rd.model.calls(key) {
				continue
			}
			l.ruleWarnf("uncalled", int(t.lines[0]), "the links are ignored", fmt.Sprintf("call %s in the matcher, or delete the links", key), "no condition calls %s: its links (%d) do nothing", key, t.len())
			continue
		case s.graphs[key].patterns(): // a name may match what it does not equal
			continue
		case !u.other && s.rules.len() > 0:
			l.lintIdle(s, rd, key, u)
		}
		if u != nil && key == "g" && u.subject && !s.graphs[key].patterns() {
			l.lintNames(s, t, u)
		}
	}
}

// calls reports whether any matcher calls a role function, those that were not
// chosen among them.
func (mf *modelFile) calls(role string) bool {
	for key := range mf.lines {
		if key[0] == 'm' && strings.Contains(mf.def(key).Value, role+"(") {
			return true
		}
	}
	return false
}

// lintIdle finds roles that no rule is for, directly or through other roles.
// Domains are not told apart, and whatever stands in rules for other sections
// counts.
func (l *loader) lintIdle(s *Snapshot, rd *reader, key string, u *roleUse) {
	t := rd.tables[key]
	useful := make([]bool, len(s.syms.vals))
	var next []uint32
	mark := func(id uint32) {
		if !useful[id] {
			useful[id] = true
			next = append(next, id)
		}
	}
	for _, c := range u.columns {
		for i := range s.rules.len() {
			yield(i)
			mark(s.rules.cell(i, c))
		}
	}
	for name, other := range rd.tables {
		if name[0] == 'p' && other != s.rules {
			for _, id := range other.cells {
				mark(id)
			}
		}
	}
	for _, text := range u.consts {
		if id, ok := s.syms.lookup(text); ok {
			mark(id)
		}
	}
	// first and from list, by role, who has it.
	first, from := make([]uint32, len(useful)+1), make([]uint32, t.len())
	for i := range t.len() {
		yield(i)
		first[t.cell(i, 1)+1]++
	}
	for i := range useful {
		first[i+1] += first[i]
	}
	at := append([]uint32(nil), first...)
	for i := range t.len() {
		yield(i)
		role := t.cell(i, 1)
		from[at[role]] = t.cell(i, 0)
		at[role]++
	}
	for len(next) > 0 {
		role := next[len(next)-1]
		next = next[:len(next)-1]
		for _, id := range from[first[role]:first[role+1]] {
			mark(id)
		}
	}
	for i := range t.len() {
		yield(i)
		if role := t.cell(i, 1); !useful[role] {
			useful[role] = true // said once
			l.ruleWarnf("idle", int(t.lines[i]), "the link is kept, and grants nothing", "delete the link, or write a rule for the role", "no rule is for %q, or for a role that it has", firstWords(s.syms.text(role)))
		}
	}
}

// lintNames finds bare names where a token's role is called role:NAME and a
// subject user:ISSUER/SUB.
func (l *loader) lintNames(s *Snapshot, t *table, u *roleUse) {
	known := map[uint32]bool{}
	bare := func(id uint32) bool {
		name := s.syms.text(id)
		if known[id] || name == "" || name == "anonymous" || strings.Contains(name, ":") {
			return false
		}
		known[id] = true
		return true
	}
	for i := range t.len() {
		yield(i)
		if id := t.cell(i, 1); bare(id) {
			name := firstWords(s.syms.text(id))
			l.ruleWarnf("barerole", int(t.lines[i]), "a subject of that name has the role", "write role:"+name, "role %q is a bare name: the token's role of that name is role:%s", name, name)
		}
		known[t.cell(i, 0)] = true // where a rule is for it, somebody meant it
	}
	for _, c := range u.columns {
		for i := range s.rules.len() {
			yield(i)
			if id := s.rules.cell(i, c); bare(id) {
				name := firstWords(s.syms.text(id))
				l.ruleWarnf("name", int(s.rules.lines[i]), "the rule matches a subject of that name", fmt.Sprintf("write role:%s for a role of the token, user:ISSUER/%s for a person", name, name), "%q is neither a role (role:NAME) nor a subject (user:ISSUER/SUB), and no link names it", name)
			}
		}
	}
}
