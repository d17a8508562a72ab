// The providers' own libraries, as a judge: one JSON question a line on stdin, one
// answer a line on stdout.
//
//   {"library", "do": "sign" | "verify", "secret", "at": Unix seconds,
//    "request": {"method", "url", "headers": [[name, value]…], "body": base64}}
//
// To sign is answered {"headers": [[name, value]…]}, those that the provider adds; to
// verify {"ok"}, with "why" where it is refused; what the judge cannot do, {"error"}.
import { createHmac } from 'node:crypto';
import { createInterface } from 'node:readline';
import { parse as parseForm } from 'node:querystring';

import { sign as octokitSign, verify as octokitVerify } from '@octokit/webhooks-methods';
import sendgrid from '@sendgrid/eventwebhook';
import '@shopify/shopify-api/adapters/node';
import { ApiVersion, LogSeverity, shopifyApi } from '@shopify/shopify-api';
import { createSHA256HMAC } from '@shopify/shopify-api/runtime';
import bolt from '@slack/bolt';
import { Webhook as StandardWebhook } from 'standardwebhooks';
import Stripe from 'stripe';
import { Webhook as SvixWebhook } from 'svix';
import twilio from 'twilio';

const stripe = new Stripe('sk_test_unused');

const header = (r, name) => r.headers.find(([n]) => n.toLowerCase() === name.toLowerCase())?.[1] ?? '';
const asObject = (r) => Object.fromEntries(r.headers.map(([n, v]) => [n.toLowerCase(), v]));
const text = (r) => r.body.toString('utf8');

// What throws, or is not true, is refused.
const libraries = {
  '@octokit/webhooks-methods': {
    sign: async (r, secret) => [['X-Hub-Signature-256', await octokitSign(secret, text(r))]],
    verify: (r, secret) => octokitVerify(secret, text(r), header(r, 'X-Hub-Signature-256')),
  },
  stripe: {
    sign: (r, secret, at) => [['Stripe-Signature', stripe.webhooks.generateTestHeaderString({ payload: text(r), secret, timestamp: at })]],
    verify: (r, secret) => stripe.webhooks.signature.verifyHeader(r.body, header(r, 'Stripe-Signature'), secret, 300),
  },
  '@slack/bolt': {
    // The library only verifies; what it verifies is signed as Slack's documentation says.
    sign: (r, secret, at) => [
      ['X-Slack-Request-Timestamp', String(at)],
      ['X-Slack-Signature', 'v0=' + createHmac('sha256', secret).update(`v0:${at}:`).update(r.body).digest('hex')],
    ],
    verify: (r, secret) => {
      const headers = asObject(r);
      headers['x-slack-request-timestamp'] = Number(headers['x-slack-request-timestamp']);
      bolt.verifySlackRequest({ signingSecret: secret, headers, body: text(r) });
      return true;
    },
  },
  '@shopify/shopify-api': {
    sign: async (r, secret) => [['X-Shopify-Hmac-Sha256', await createSHA256HMAC(secret, text(r))]],
    verify: async (r, secret) => {
      const shopify = shopifyApi({
        apiKey: 'key', apiSecretKey: secret, apiVersion: Object.values(ApiVersion).at(-1), isEmbeddedApp: false,
        hostName: 'app.example', hostScheme: 'https', logger: { level: LogSeverity.Error, log: () => {} },
      });
      const headers = {
        'X-Shopify-Topic': 'orders/create', 'X-Shopify-Api-Version': '2025-01', 'X-Shopify-Shop-Domain': 'shop.example', 'X-Shopify-Webhook-Id': '1',
        'X-Shopify-Hmac-Sha256': header(r, 'X-Shopify-Hmac-Sha256'),
      };
      const told = await shopify.webhooks.validate({ rawBody: text(r), rawRequest: { method: r.method, url: '/', headers }, rawResponse: {} });
      return told.valid;
    },
  },
  twilio: {
    sign: (r, secret) => {
      const form = header(r, 'Content-Type').startsWith('application/x-www-form-urlencoded');
      return [['X-Twilio-Signature', twilio.getExpectedTwilioSignature(secret, r.url, form ? parseForm(text(r)) : {})]];
    },
    verify: (r, secret) => {
      const signature = header(r, 'X-Twilio-Signature');
      if (new URL(r.url).searchParams.has('bodySHA256')) {
        return twilio.validateRequestWithBody(secret, signature, r.url, text(r));
      }
      return twilio.validateRequest(secret, signature, r.url, parseForm(text(r)));
    },
  },
  '@sendgrid/eventwebhook': {
    verify: (r, secret) => {
      const judge = new sendgrid.EventWebhook();
      return judge.verifySignature(judge.convertPublicKeyToECDSA(secret), r.body,
        header(r, sendgrid.EventWebhookHeader.SIGNATURE()), header(r, sendgrid.EventWebhookHeader.TIMESTAMP()));
    },
  },
  standardwebhooks: standard(StandardWebhook, 'webhook-'),
  svix: standard(SvixWebhook, 'svix-'),
};

function standard(Webhook, prefix) {
  return {
    sign: (r, secret, at) => {
      const id = 'msg_' + at;
      const signature = new Webhook(secret).sign(id, new Date(at * 1000), text(r));
      return [[prefix + 'id', id], [prefix + 'timestamp', String(at)], [prefix + 'signature', signature]];
    },
    verify: (r, secret) => {
      new Webhook(secret).verify(text(r), asObject(r));
      return true;
    },
  };
}

async function answer(question) {
  const { library, secret, at } = question;
  const r = { ...question.request, body: Buffer.from(question.request.body, 'base64') };
  const judge = libraries[library];
  if (question.do === 'sign') {
    return judge?.sign ? { headers: await judge.sign(r, secret, at) } : { error: library + ' does not sign' };
  }
  try {
    return { ok: (await judge.verify(r, secret)) === true };
  } catch (err) {
    return { ok: false, why: String(err?.message ?? err) };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  let reply;
  try {
    reply = await answer(JSON.parse(line));
  } catch (err) {
    reply = { error: String(err?.stack ?? err) };
  }
  process.stdout.write(JSON.stringify(reply) + '\n');
}
