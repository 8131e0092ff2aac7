package integration

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// A surface is a place where something of a request may be seen: what is
// there, by place.
type surface map[string][]string

func (s surface) add(place, text string) { s[place] = append(s[place], strings.ToLower(text)) }

// with returns the places that hold any of these.
func (s surface) with(needles []string) []string {
	places := map[string]bool{}
	for place, texts := range s {
		for _, text := range texts {
			for _, needle := range needles {
				if strings.Contains(text, strings.ToLower(needle)) {
					places[place] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(places))
}

// flatten adds the members of a JSON object, each under its path.
func (s surface) flatten(prefix string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, member := range v {
			s.add(prefix+"(key)", k)
			s.flatten(strings.TrimSuffix(prefix, ".")+prefixDot(prefix)+k, member)
		}
	default:
		s.add(prefix, fmt.Sprint(v))
	}
}

func prefixDot(prefix string) string {
	if strings.HasSuffix(prefix, " ") {
		return ""
	}
	return "."
}

// spans adds all that spans hold.
func (s surface) spans(spans []*tracev1.Span) {
	for _, span := range spans {
		for _, a := range span.GetAttributes() {
			s.add("span "+a.GetKey(), a.GetKey()+" "+prototext.Format(a.GetValue()))
		}
		rest := proto.CloneOf(span)
		rest.Attributes = nil
		s.add("span", prototext.Format(rest)) // name, events, links, status, trace state
	}
}
