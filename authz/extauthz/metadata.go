package extauthz

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sallyport-authz/sallyport/authz"
)

// Bounds of what one answer adds to dynamic metadata. An entry that does not
// fit is left out.
const (
	maxMetadata      = 32 << 10 // bytes, of all entries beyond the six
	maxMetadataDepth = 16
)

// metadata returns what Envoy keeps beside the request, under the namespace
// envoy.filters.http.ext_authz: on every answer the same six fields, empty
// where there is nothing to say, and what the route adds. It goes into the
// top level of the answer, which serves allows and denials alike.
func metadata(d *authz.Decision) *structpb.Struct {
	a := d.Answer()
	subject := ""
	if s := d.Subject(); s != nil {
		subject = s.ID
	}
	fields := make(map[string]*structpb.Value, 6+len(a.Metadata))
	left := maxMetadata
	for _, name := range slices.Sorted(maps.Keys(a.Metadata)) {
		cost := len(name)
		v, ok := toValue(a.Metadata[name], maxMetadataDepth, &cost)
		if ok && utf8.ValidString(name) && cost <= left {
			fields[name] = v
			left -= cost
		}
	}
	// Last, so that no entry can pass for one of them.
	fields["decision_id"] = text(d.ID())
	fields["reason"] = text(string(d.Reason()))
	fields["route"] = text(d.Route())
	fields["policy"] = text(d.Policy())
	fields["revision"] = text(d.Revision())
	fields["subject"] = text(subject)
	return &structpb.Struct{Fields: fields}
}

// text makes a string safe to marshal. One that is too long is left empty: a
// part of a name is another name.
func text(s string) *structpb.Value {
	if len(s) > maxValue {
		s = ""
	}
	return structpb.NewStringValue(strings.ToValidUTF8(s, "\uFFFD"))
}

// toValue converts a JSON value, as [authz.Subject] holds them in Claims. It adds what the value costs to cost,
// and gives up at the bounds, so that a large claim is not walked to its end.
func toValue(v any, depth int, cost *int) (*structpb.Value, bool) {
	*cost += 8 // its own frame
	if depth == 0 || *cost > maxMetadata {
		return nil, false
	}
	switch v := v.(type) {
	case nil:
		return structpb.NewNullValue(), true
	case bool:
		return structpb.NewBoolValue(v), true
	case string:
		*cost += len(v)
		return structpb.NewStringValue(v), len(v) <= maxMetadata && utf8.ValidString(v)
	case float64:
		return structpb.NewNumberValue(v), !math.IsNaN(v) && !math.IsInf(v, 0)
	case int64:
		return integer(v), true
	case []any:
		values := make([]*structpb.Value, 0, min(len(v), 64))
		for _, item := range v {
			value, ok := toValue(item, depth-1, cost)
			if !ok {
				return nil, false
			}
			values = append(values, value)
		}
		return structpb.NewListValue(&structpb.ListValue{Values: values}), true
	case map[string]any:
		fields := make(map[string]*structpb.Value, min(len(v), 64))
		for name, member := range v {
			*cost += len(name)
			value, ok := toValue(member, depth-1, cost)
			if !ok || !utf8.ValidString(name) {
				return nil, false
			}
			fields[name] = value
		}
		return structpb.NewStructValue(&structpb.Struct{Fields: fields}), true
	}
	return nil, false
}

// integer keeps numbers beyond 2^53 exact, as text: protobuf's only number is
// a double. JSON in CEL and protobuf does the same.
func integer(v int64) *structpb.Value {
	const exact = 1<<53 - 1
	if v > exact || v < -exact {
		return structpb.NewStringValue(strconv.FormatInt(v, 10))
	}
	return structpb.NewNumberValue(float64(v))
}
