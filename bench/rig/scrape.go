package rig

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/harkhq/hark/e2e/testenv"
)

// Metrics are the values of a server's /metrics, by name with labels.
type Metrics map[string]float64

// Scrape reads a server's metrics.
func Scrape(ctx context.Context, api testenv.API) (Metrics, error) {
	answer, err := api.Do(ctx, "GET", "/metrics", nil)
	if err != nil {
		return nil, err
	}
	if !answer.OK() {
		return nil, errors.New("/metrics: " + answer.String())
	}
	m := Metrics{}
	for line := range strings.Lines(string(answer.Body)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			m[name] = v
		}
	}
	return m, nil
}

// Quantile returns the upper bound of the bucket in which the quantile q of a
// histogram without labels lies, counting from before to m; 0 for none.
func (m Metrics) Quantile(before Metrics, name string, q float64) float64 {
	type bucket struct{ le, n float64 }
	var buckets []bucket
	for key, v := range m {
		text, ok := strings.CutPrefix(key, name+`_bucket{le="`)
		if !ok {
			continue
		}
		le, err := strconv.ParseFloat(strings.TrimSuffix(text, `"}`), 64)
		if err == nil {
			buckets = append(buckets, bucket{le, v - before[key]})
		}
	}
	slices.SortFunc(buckets, func(a, b bucket) int {
		if a.le < b.le {
			return -1
		}
		return 1
	})
	if len(buckets) == 0 || buckets[len(buckets)-1].n == 0 {
		return 0
	}
	rank := math.Ceil(q * buckets[len(buckets)-1].n)
	for _, b := range buckets {
		if b.n >= rank {
			return b.le
		}
	}
	return 0
}
