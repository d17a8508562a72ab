package scheme

// needed returns the only value of a header that the scheme needs; a verdict without
// a reason has no objection. A header that stands there twice is refused: what reads
// the request later might take the other one.
func (s *Source) needed(r *Request, name string) (string, Verdict) {
	switch values := r.Header.Values(name); {
	case len(values) == 0 || len(values) == 1 && values[0] == "":
		return "", refused(HeaderMissing, "there is no header %s: is the secret entered at %s, too?", name, s.Scheme.Title)
	case len(values) > 1:
		return "", refused(Malformed, "the header %s stands there %d times", name, len(values))
	default:
		return values[0], Verdict{}
	}
}

// diagnose says why no signature of r is right.
func (rc *recipe) diagnose(s *Source, r *Request, got sent) Verdict {
	return refused(NoSecretMatches, "the signature is of another secret or of other content: compare the secret at %s with the source's", s.Scheme.Title)
}
