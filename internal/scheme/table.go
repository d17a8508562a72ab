package scheme

// table holds every scheme, in the order of the dashboard.
var table = []*Scheme{
	&github,
	&gitlab,
	&stripe,
	&slack,
	&shopify,
	&twilio,
	&sendgrid,
	&bitbucket,
	&gitea,
	&linear,
	&paddle,
	&square,
	&meta,
	&xTwitter,
	&discord,
	&zoom,
	&mailgun,
	&intercom,
	&typeform,
	&calendly,
	&pagerduty,
	&pubsub,
	&sns,

	// For any sender.
	&standard,
	&cloudEvents,
	&hmacScheme,
	&token,
	&none,
}
