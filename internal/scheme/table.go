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

	// For any sender.
	&standard,
	&hmacScheme,
	&token,
	&none,
}
