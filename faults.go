package hark

// Faults returns every [Error] inside err, in order: the parts of an
// [errors.Join] one by one, so that an answer can show all faults of a request at
// once. It is empty when err holds none.
func Faults(err error) []*Error {
	switch e := err.(type) {
	case nil:
		return nil
	case *Error:
		return []*Error{e}
	case interface{ Unwrap() []error }:
		var all []*Error
		for _, part := range e.Unwrap() {
			all = append(all, Faults(part)...)
		}
		return all
	case interface{ Unwrap() error }:
		return Faults(e.Unwrap())
	}
	return nil
}
