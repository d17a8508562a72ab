package rig

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
)

// Figure is one row of a benchmark's result.
type Figure struct {
	Name string `json:"name"`
	Unit string `json:"unit"`
	// Ours holds one value for each run; the median counts.
	Ours []float64 `json:"ours"`
	// Bound is what the bare program did in the same runs, if there is one.
	Bound []float64 `json:"bound,omitempty"`
	Bar   Bar       `json:"bar"`
	// Note says what the row alone does not.
	Note string `json:"note,omitempty"`
}

// Bar is what a figure must reach. A row passes if it reaches any of them; with
// none it only informs.
type Bar struct {
	AtLeast      float64 `json:"at_least,omitempty"`
	AtMost       float64 `json:"at_most,omitempty"`
	RatioAtLeast float64 `json:"ratio_at_least,omitempty"` // ours / bound
	RatioAtMost  float64 `json:"ratio_at_most,omitempty"`
	// Zero demands exactly 0.
	Zero bool `json:"zero,omitempty"`
}

// Value is the median of ours.
func (f *Figure) Value() float64 { return Median(f.Ours) }

// Ratio is ours by bound, 0 without a bound: the median of the runs' own
// ratios, because a run shares its machine's mood with its bound.
func (f *Figure) Ratio() float64 {
	var ratios []float64
	for i := range min(len(f.Ours), len(f.Bound)) {
		if f.Bound[i] > 0 {
			ratios = append(ratios, f.Ours[i]/f.Bound[i])
		}
	}
	return Median(ratios)
}

// Verdict is "pass", "FAIL", or "" for a row without a bar.
func (f *Figure) Verdict() string {
	if f.Bar == (Bar{}) {
		return ""
	}
	v, r := f.Value(), f.Ratio()
	switch b := f.Bar; {
	case len(f.Ours) == 0:
		return "FAIL" // it was not measured
	case b.Zero && v == 0,
		b.AtLeast > 0 && v >= b.AtLeast,
		b.AtMost > 0 && v <= b.AtMost,
		b.RatioAtLeast > 0 && r >= b.RatioAtLeast,
		b.RatioAtMost > 0 && r > 0 && r <= b.RatioAtMost:
		return "pass"
	}
	return "FAIL"
}

// String is the bar in words.
func (b Bar) String() string {
	out := ""
	add := func(format string, v float64) {
		if v == 0 {
			return
		}
		if out != "" {
			out += " or "
		}
		out += fmt.Sprintf(format, Number(v))
	}
	add("≥ %s", b.AtLeast)
	add("≤ %s", b.AtMost)
	add("≥ %s of bound", b.RatioAtLeast)
	add("≤ %s× bound", b.RatioAtMost)
	if b.Zero {
		out = "0"
	}
	return out
}

// Machine is what a figure depends on besides the program.
type Machine struct {
	Cores    int     `json:"cores"`
	FsyncP50 float64 `json:"fsync_p50_ms"`
	FsyncP99 float64 `json:"fsync_p99_ms"`
	FsyncMax float64 `json:"fsync_max_ms"`
	Go       string  `json:"go"`
	Kernel   string  `json:"kernel"`
}

// Result is a benchmark's whole outcome.
type Result struct {
	Machine Machine   `json:"machine"`
	Setup   string    `json:"setup"`
	Figures []*Figure `json:"figures"`
}

// Failed tells how many rows fail.
func (r *Result) Failed() (n int) {
	for _, f := range r.Figures {
		if f.Verdict() == "FAIL" {
			n++
		}
	}
	return n
}

// WriteJSON writes all, with every run.
func (r *Result) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteFile writes JSON to a file.
func (r *Result) WriteFile(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return r.WriteJSON(f)
}

// WriteTable writes the medians, and the spread over the runs.
func (r *Result) WriteTable(w io.Writer) {
	fmt.Fprintf(w, "%s\n%d cores; fsync p50 %.2f, p99 %.2f, max %.1f ms; %s, Linux %s\n\n", r.Setup,
		r.Machine.Cores, r.Machine.FsyncP50, r.Machine.FsyncP99, r.Machine.FsyncMax, r.Machine.Go, r.Machine.Kernel)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "figure\tours\t[min–max]\tbound\tratio\tbar\t\t")
	for _, f := range r.Figures {
		fmt.Fprintf(t, "%s\t%s %s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Name, Number(f.Value()), f.Unit, spread(f.Ours),
			blank(len(f.Bound) == 0, Number(Median(f.Bound))), blank(f.Ratio() == 0, fmt.Sprintf("%.2f", f.Ratio())),
			f.Bar, f.Verdict(), f.Note)
	}
	t.Flush()
}

func blank(yes bool, otherwise string) string {
	if yes {
		return ""
	}
	return otherwise
}

func spread(values []float64) string {
	if len(values) < 2 {
		return ""
	}
	low, high := values[0], values[0]
	for _, v := range values {
		low, high = min(low, v), max(high, v)
	}
	return "[" + Number(low) + "–" + Number(high) + "]"
}

// Number writes v with three digits that count, and thousands apart.
func Number(v float64) string {
	switch {
	case v >= 1000 || v <= -1000:
		text := fmt.Sprintf("%.0f", v)
		for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
			text = text[:i] + " " + text[i:]
		}
		return text
	case v == float64(int64(v)):
		return fmt.Sprintf("%.0f", v)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
