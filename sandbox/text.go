// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strings"
	"unicode/utf8"
)

// A path, an argument or a variable may hold any bytes but NUL, and JSON's strings hold Unicode alone: encoding/json puts U+FFFD
// in the place of all else, which is the name of another file. What is no UTF-8 is sent in base64 behind a NUL.
const encoded = "\x00"

func (o buildOrder) MarshalJSON() ([]byte, error) {
	type plain buildOrder
	return json.Marshal(mapStrings(reflect.ValueOf(plain(o)), encodeText).Interface())
}

func (o *buildOrder) UnmarshalJSON(data []byte) error {
	type plain buildOrder
	var p plain
	if err := json.Unmarshal(data, &p); err != nil {
		return err
	}
	*o = buildOrder(mapStrings(reflect.ValueOf(p), decodeText).Interface().(plain))
	return nil
}

func encodeText(s string) string {
	if utf8.ValidString(s) && !strings.HasPrefix(s, encoded) {
		return s
	}
	return encoded + base64.StdEncoding.EncodeToString([]byte(s))
}

func decodeText(s string) string {
	text, ok := strings.CutPrefix(s, encoded)
	if !ok {
		return s
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return s // encodeText made it
	}
	return string(raw)
}

// mapStrings returns a copy of a value with f applied to every string in it: keys of maps too, but nothing that is unexported or
// behind a pointer.
func mapStrings(v reflect.Value, f func(string) string) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	switch {
	case v.Kind() == reflect.String:
		out.SetString(f(v.String()))
	case v.Kind() == reflect.Slice && !v.IsNil():
		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			out.Index(i).Set(mapStrings(v.Index(i), f))
		}
	case v.Kind() == reflect.Map && !v.IsNil():
		out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
		for iter := v.MapRange(); iter.Next(); {
			out.SetMapIndex(mapStrings(iter.Key(), f), mapStrings(iter.Value(), f))
		}
	case v.Kind() == reflect.Struct:
		out.Set(v)
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				out.Field(i).Set(mapStrings(v.Field(i), f))
			}
		}
	default:
		out.Set(v)
	}
	return out
}
