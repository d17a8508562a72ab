package message

import (
	"slices"
	"strings"

	"github.com/harkhq/hark/internal/template"
)

// The events are described at docs.stripe.com/api/events/types, amounts at
// docs.stripe.com/currencies.

func isStripe(p *payload) bool {
	return p.text("object") == "event" && p.has("type", "data.object") && strings.HasPrefix(p.text("id"), "evt_")
}

// zeroDecimal and threeDecimal are the currencies whose amounts are not in hundredths.
// ISK, HUF, TWD and UGX look like candidates, but Stripe takes the first three in
// hundredths; UGX is in its list of currencies without decimals.
var (
	zeroDecimal = []string{"BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"}

	threeDecimal = []string{"BHD", "JOD", "KWD", "OMR", "TND"}
)

// amount writes an amount in a currency's smallest unit: 12.34 USD, 500 JPY, 5.120 KWD.
func amount(units, currency string) string {
	currency = strings.ToUpper(currency)
	digits := 2
	switch {
	case slices.Contains(zeroDecimal, currency):
		digits = 0
	case slices.Contains(threeDecimal, currency):
		digits = 3
	}
	text, ok := template.Decimal(units, digits)
	if !ok {
		return "an amount"
	}
	return strings.TrimSpace(text + " " + clean(currency, 3))
}

// sum is the amount at a path of the object, emphasised.
func (p *payload) sum(path string) Span {
	return bold(amount(p.text("data.object."+path), p.text("data.object.currency")))
}

func sayStripe(p *payload) *Message {
	o := func(path string) string { return p.text("data.object." + path) }
	m := stripeMoney(p, o)
	if m == nil {
		m = stripeOther(p, o)
	}
	for _, f := range []struct{ name, value string }{
		{"Customer", first(o("customer_name"), o("billing_details.name"), o("customer_details.name"), o("name"))},
		{"E-mail", first(o("receipt_email"), o("customer_email"), o("billing_details.email"), o("customer_details.email"), o("email"))},
		{"For", o("description")},
	} {
		if f.value != "" {
			m.Fields = append(m.Fields, Field{f.name, line(text(f.value))})
		}
	}
	m.Footer = "Stripe"
	if p.at("livemode") == false {
		m.Footer = "Stripe · test mode"
	}
	return m
}

// stripeMoney has the words for what people pay; nil for other events.
func stripeMoney(p *payload, o func(string) string) *Message {
	// page links an object in Stripe's dashboard.
	page := func(say, place, id string) Span {
		mode := "test/"
		if p.yes("livemode") {
			mode = ""
		}
		return link(say, "https://dashboard.stripe.com/"+mode+place+"/"+id)
	}
	payment := page("payment", "payments", first(o("payment_intent"), o("id")))
	invoice := link("Invoice "+first(o("number"), o("id")), first(o("hosted_invoice_url"), page("", "invoices", o("id")).URL))
	switch kind := p.text("type"); kind {
	case "payment_intent.succeeded":
		return &Message{Title: line("A ", payment, " of ", p.sum("amount_received"), " succeeded"), Severity: Good}
	case "payment_intent.payment_failed":
		return &Message{Title: line("A ", payment, " of ", p.sum("amount"), " failed", because(o("last_payment_error.message"))), Severity: Bad}
	case "payment_intent.canceled":
		return &Message{Title: line("A ", payment, " of ", p.sum("amount"), " was cancelled", because(o("cancellation_reason"))), Severity: Warning}
	case "charge.succeeded", "charge.captured":
		return &Message{Title: line("A ", page("charge", "payments", o("id")), " of ", p.sum("amount"), " ", strings.TrimPrefix(kind, "charge.")), Severity: Good}
	case "charge.failed":
		return &Message{Title: line("A ", page("charge", "payments", o("id")), " of ", p.sum("amount"), " failed", because(o("failure_message"))), Severity: Bad}
	case "charge.refunded":
		return &Message{Title: line(p.sum("amount_refunded"), " of a ", payment, " of ", p.sum("amount"), " are refunded"), Severity: Warning}
	case "charge.dispute.created", "charge.dispute.closed", "charge.dispute.updated":
		verb, severity := strings.TrimPrefix(kind, "charge.dispute."), Bad
		if o("status") == "won" {
			severity = Good
		}
		return &Message{Title: line("A ", page("dispute", "disputes", o("id")), " over ", p.sum("amount"), " was "+verb, because(o("reason"))), Severity: severity,
			Fields: []Field{{"Status", line(text(words(o("status"))))}}}
	case "invoice.paid", "invoice.payment_succeeded":
		return &Message{Title: line(invoice, " over ", p.sum("amount_paid"), " is paid"), Severity: Good}
	case "invoice.payment_failed":
		return &Message{Title: line("The payment of ", invoice, " over ", p.sum("amount_due"), " failed"), Severity: Bad}
	case "checkout.session.completed", "checkout.session.async_payment_succeeded":
		if o("payment_status") == "unpaid" {
			return &Message{Title: line("A checkout over ", p.sum("amount_total"), " is completed; the payment is under way")}
		}
		return &Message{Title: line("A checkout over ", p.sum("amount_total"), " is completed and paid"), Severity: Good}
	case "payout.paid", "payout.failed", "payout.created":
		m := &Message{Title: line("A ", page("payout", "payouts", o("id")), " of ", p.sum("amount"), " was "+strings.TrimPrefix(kind, "payout."), because(o("failure_message")))}
		if kind == "payout.failed" {
			m.Title, m.Severity = line("A ", page("payout", "payouts", o("id")), " of ", p.sum("amount"), " failed", because(o("failure_message"))), Bad
		}
		return m
	}
	return nil
}

// because adds a reason, if one is given.
func because(reason string) Span {
	if reason == "" {
		return Span{}
	}
	return Span{Text: ": " + clean(words(reason), MaxTitle)}
}

// words takes a name in snake case apart; a sentence stays as it is.
func words(s string) string {
	if !strings.Contains(s, " ") {
		s = strings.ReplaceAll(s, "_", " ")
	}
	return s
}

// stripeOther has no words of its own for an event: its type must do.
func stripeOther(p *payload, o func(string) string) *Message {
	m := &Message{Title: line("Stripe: ", bold(words(strings.ReplaceAll(p.text("type"), ".", " "))))}
	if o("amount") != "" && o("currency") != "" {
		m.Title = append(m.Title, line(", ", p.sum("amount"))...)
	}
	for _, name := range []string{"id", "status"} {
		if v := o(name); v != "" {
			m.Fields = append(m.Fields, Field{map[string]string{"id": "Id", "status": "Status"}[name], line(code(v))})
		}
	}
	return m
}
