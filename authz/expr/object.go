package expr

import (
	"fmt"
	"reflect"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// An objectType is the CEL type of a variable with members, so that a member
// that does not exist is found when the configuration loads. It has the name
// of its variable: messages then name what the author wrote, and since the
// variable shadows the type, nobody can build one with subject{...}.
type objectType struct {
	name    string
	fields  []field
	byName  map[string]*types.FieldType
	celType *cel.Type
}

const objectTraits = traits.FieldTesterType | traits.IndexerType

func newObjectType(name string, fields ...field) *objectType {
	t := &objectType{
		name:    name,
		fields:  fields,
		byName:  make(map[string]*types.FieldType, len(fields)),
		celType: cel.ObjectType(name, objectTraits),
	}
	for i := range t.fields {
		f := &t.fields[i]
		f.missing = &Missing{What: name + "." + f.name, Why: unknown}
		t.byName[f.name] = &types.FieldType{
			Type: f.typ,
			IsSet: func(target any) bool {
				o, ok := target.(*object)
				if ok = ok && o.typ == t; ok {
					_, ok = f.get(o.scope)
				}
				return ok
			},
			GetFrom: func(target any) (any, error) {
				o, ok := target.(*object)
				if !ok || o.typ != t { // dyn() can tell the checker lies
					return nil, fmt.Errorf("no such overload: %T is no %s", target, name)
				}
				v, ok := f.get(o.scope)
				if !ok {
					return nil, f.missing
				}
				return v, nil
			},
		}
	}
	return t
}

// HasTrait implements [ref.Type].
func (t *objectType) HasTrait(trait int) bool { return objectTraits&trait == trait }

// TypeName implements [ref.Type].
func (t *objectType) TypeName() string { return t.name }

// ReflectType implements [types.StructTypeDescriptor]: there is none.
func (t *objectType) ReflectType() reflect.Type { return nil }

// FieldNames implements [types.StructTypeDescriptor].
func (t *objectType) FieldNames() []string {
	names := make([]string, len(t.fields))
	for i := range t.fields {
		names[i] = t.fields[i].name
	}
	return names
}

// FindFieldType implements [types.StructTypeDescriptor].
func (t *objectType) FindFieldType(name string) (*types.FieldType, bool) {
	f, ok := t.byName[name]
	return f, ok
}

// NewValue implements [types.StructTypeDescriptor]: only a Scope makes one.
func (t *objectType) NewValue(types.Adapter, map[string]ref.Val) ref.Val {
	return types.NewErr("no such overload: %s cannot be made", t.name)
}

// Adapt implements [types.StructTypeDescriptor]: there is nothing to adapt.
func (t *objectType) Adapt(_ types.Adapter, v any) ref.Val {
	return types.NewErr("no such overload: %T is no %s", v, t.name)
}

// An object is such a variable of one request. It holds nothing itself.
type object struct {
	typ   *objectType
	scope *Scope
}

var (
	_ types.StructTypeDescriptor = (*objectType)(nil)
	_ ref.Val                    = (*object)(nil)
	_ traits.Indexer             = (*object)(nil)
	_ traits.FieldTester         = (*object)(nil)
)

// Get implements [traits.Indexer], for members that are looked up by a name
// known at run time only: dyn(subject).tenant.
func (o *object) Get(index ref.Val) ref.Val {
	name, ok := index.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(index)
	}
	f, ok := o.typ.byName[string(name)]
	if !ok {
		return types.NewErr("no such key: %s", name)
	}
	v, err := f.GetFrom(o)
	if err != nil {
		return types.WrapErr(err)
	}
	return types.DefaultTypeAdapter.NativeToValue(v)
}

// IsSet implements [traits.FieldTester].
func (o *object) IsSet(index ref.Val) ref.Val {
	name, ok := index.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(index)
	}
	f, ok := o.typ.byName[string(name)]
	return types.Bool(ok && f.IsSet(o))
}

// ConvertToNative implements [ref.Val].
func (o *object) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("%s is no %v", o.typ.name, t)
}

// ConvertToType implements [ref.Val].
func (o *object) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return o.typ.celType
	}
	return types.NewErr("no such overload: %s is no %s", o.typ.name, t.TypeName())
}

// Equal implements [ref.Val]. A request has one object of each type.
func (o *object) Equal(other ref.Val) ref.Val { return types.Bool(other == ref.Val(o)) }

// Type implements [ref.Val].
func (o *object) Type() ref.Type { return o.typ.celType }

// Value implements [ref.Val].
func (o *object) Value() any { return o }
