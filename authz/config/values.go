package config

// A Place is where something stands in the file.
type Place struct {
	Key  string `yaml:"-"` // dotted: routes[0], policies.api
	Line int    `yaml:"-"` // counted from 1
}

// A Text is a string that another part has to read, with its place, so that
// this part's complaints can name it. The zero value is an absent key.
type Text struct {
	Value string
	Line  int // where the value starts; for a block (|, >) the line of its sign
	Key   string
}

// A File is the path of a file. Nothing here opens it.
type File struct {
	Path    string // what to open: relative paths start at the configuration file's folder
	Written string // as the file has it
	Line    int
	Key     string
}

// An Entry is one name and its CEL expression. Entries stand in the order of
// the file.
type Entry struct {
	Name string
	Expr Text
}
