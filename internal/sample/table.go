package sample

import "encoding/json"

// table holds every sample: providers in the order of their schemes, the usual event first.
var table = []*Sample{
	{Provider: "github", Event: "push", Title: "two commits pushed to a branch", Scheme: "github", file: "github-push.http"},
	{Provider: "github", Event: "pull_request.opened", Title: "a pull request opened", Scheme: "github", file: "github-pull_request.http"},
	{Provider: "github", Event: "issues.opened", Title: "an issue opened", Scheme: "github", file: "github-issues.http"},
	{Provider: "github", Event: "release.published", Title: "a release published", Scheme: "github", file: "github-release.http"},
	{Provider: "github", Event: "ping", Title: "the ping of a new webhook", Scheme: "github", file: "github-ping.http"},
	{Provider: "github", Event: "star.created", Title: "somebody starred the repository", Scheme: "github", file: "github-star.http"},

	{Provider: "gitlab", Event: "push", Title: "a commit pushed to a branch", Scheme: "gitlab", file: "gitlab-push.http"},
	{Provider: "gitlab", Event: "merge_request", Title: "a merge request opened", Scheme: "gitlab", file: "gitlab-merge_request.http"},
	{Provider: "gitlab", Event: "issue", Title: "an issue opened", Scheme: "gitlab", file: "gitlab-issue.http"},
	{Provider: "gitlab", Event: "pipeline", Title: "a pipeline failed", Scheme: "gitlab", file: "gitlab-pipeline.http"},

	{Provider: "stripe", Event: "payment_intent.succeeded", Title: "a payment succeeded", Scheme: "stripe", file: "stripe-payment_intent.succeeded.http"},
	{Provider: "stripe", Event: "charge.failed", Title: "a card was declined", Scheme: "stripe", file: "stripe-charge.failed.http"},
	{Provider: "stripe", Event: "invoice.paid", Title: "a subscription's invoice paid", Scheme: "stripe", file: "stripe-invoice.paid.http"},
	{Provider: "stripe", Event: "checkout.session.completed", Title: "a checkout completed", Scheme: "stripe", file: "stripe-checkout.session.completed.http"},
	{Provider: "stripe", Event: "customer.subscription.deleted", Title: "a subscription ended", Scheme: "stripe", file: "stripe-customer.subscription.deleted.http"},

	{Provider: "slack", Event: "message", Title: "a message in a channel", Scheme: "slack", file: "slack-message.http"},
	{Provider: "slack", Event: "app_mention", Title: "the app was mentioned", Scheme: "slack", file: "slack-app_mention.http"},
	{Provider: "slack", Event: "url_verification", Title: "the handshake of a new request URL", Scheme: "slack", file: "slack-url_verification.http"},

	{Provider: "shopify", Event: "orders/create", Title: "an order created", Scheme: "shopify", file: "shopify-orders-create.http"},
	{Provider: "shopify", Event: "orders/paid", Title: "an order paid", Scheme: "shopify", file: "shopify-orders-paid.http"},

	{Provider: "twilio", Event: "sms", Title: "an SMS came in (form)", Scheme: "twilio", file: "twilio-sms.http"},
	{Provider: "twilio", Event: "status", Title: "an SMS was delivered (form)", Scheme: "twilio", file: "twilio-status.http"},

	{Provider: "sendgrid", Event: "delivered", Title: "a mail delivered", Scheme: "sendgrid", file: "sendgrid-delivered.http"},
	{Provider: "sendgrid", Event: "bounce", Title: "a batch of two mails that bounced", Scheme: "sendgrid", file: "sendgrid-bounce.http"},

	{Provider: "standard", Event: "order.paid", Title: "an event as Standard Webhooks advises", Scheme: "standard", file: "standard-order.paid.http"},

	{Provider: "token", Event: "order.created", Title: "JSON of your own program", Scheme: "token", file: "plain-order.http"},
	{Provider: "hmac", Event: "order.created", Title: "JSON of your own program", Scheme: "hmac", Settings: json.RawMessage(`{"header":"X-Signature"}`), file: "plain-order.http"},
	{Provider: "none", Event: "order.created", Title: "JSON of your own program", Scheme: "none", file: "plain-order.http"},

	{Provider: "bitbucket", Event: "repo:push", Title: "a commit pushed to a branch", Scheme: "bitbucket", file: "bitbucket-push.http"},
	{Provider: "gitea", Event: "push", Title: "a commit pushed to a branch", Scheme: "gitea", file: "gitea-push.http"},
	{Provider: "linear", Event: "issue.create", Title: "an issue created", Scheme: "linear", file: "linear-issue.http"},
	{Provider: "paddle", Event: "transaction.completed", Title: "a payment completed", Scheme: "paddle", file: "paddle-transaction.completed.http"},
	{Provider: "x", Event: "post.create", Title: "a post that mentions the account", Scheme: "x", file: "x-post.http"},
	{Provider: "x", Event: "crc", Title: "the challenge-response check (GET)", Scheme: "x", file: "x-crc.http"},
	{Provider: "meta", Event: "whatsapp.message", Title: "a WhatsApp message came in", Scheme: "meta", Settings: verifyToken, file: "meta-whatsapp.http"},
	{Provider: "meta", Event: "verify", Title: "the handshake of a new callback URL (GET)", Scheme: "meta", Settings: verifyToken, file: "meta-verify.http"},
	{Provider: "discord", Event: "command", Title: "somebody used a slash command", Scheme: "discord", file: "discord-command.http"},
	{Provider: "discord", Event: "ping", Title: "the handshake of a new interactions URL", Scheme: "discord", file: "discord-ping.http"},
	{Provider: "mailgun", Event: "delivered", Title: "a mail delivered", Scheme: "mailgun", file: "mailgun-delivered.http"},
	{Provider: "square", Event: "payment.updated", Title: "a payment completed", Scheme: "square", file: "square-payment.updated.http"},
	{Provider: "zoom", Event: "meeting.started", Title: "a meeting started", Scheme: "zoom", file: "zoom-meeting.started.http"},
	{Provider: "zoom", Event: "endpoint.url_validation", Title: "the handshake of a new endpoint", Scheme: "zoom", file: "zoom-url_validation.http"},
	{Provider: "typeform", Event: "form_response", Title: "a form filled in", Scheme: "typeform", file: "typeform-form_response.http"},
	{Provider: "intercom", Event: "conversation.user.created", Title: "a conversation began", Scheme: "intercom", file: "intercom-conversation.user.created.http"},
	{Provider: "calendly", Event: "invitee.created", Title: "an appointment made", Scheme: "calendly", file: "calendly-invitee.created.http"},
	{Provider: "pagerduty", Event: "incident.triggered", Title: "an incident triggered", Scheme: "pagerduty", file: "pagerduty-incident.triggered.http"},
	{Provider: "cloudevents", Event: "binary", Title: "an event in binary mode", Scheme: "cloudevents", file: "cloudevents-binary.http"},
	{Provider: "cloudevents", Event: "structured", Title: "an event in structured mode", Scheme: "cloudevents", file: "cloudevents-structured.http"},
	{Provider: "cloudevents", Event: "handshake", Title: "the handshake of a new target (OPTIONS)", Scheme: "cloudevents", file: "cloudevents-handshake.http"},
	{Provider: "pubsub", Event: "message", Title: "a message pushed", Scheme: "pubsub", file: "pubsub-message.http"},
	{Provider: "sns", Event: "notification", Title: "an alarm", Scheme: "sns", file: "sns-notification.http"},
}

// verifyToken is what a handshake of Meta holds, and its scheme needs.
var verifyToken = json.RawMessage(`{"verify_token":"a-token-of-your-choice"}`)
