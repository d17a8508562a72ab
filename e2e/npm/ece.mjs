// The other end of Web Push, as the npm packages web-push and http_ece have it: answers each line
// of JSON on stdin with one on stdout.
import crypto from 'node:crypto';
import readline from 'node:readline';
import ece from 'http_ece';
import webpush from 'web-push';

const bytes = text => Buffer.from(text, 'base64url');
const text = b => b.toString('base64url');

const ops = {
  // open decrypts what Hark has sealed.
  open({ key, encoding, salt, dh, body }) {
    const secret = bytes(key);
    const receiver = crypto.createECDH('prime256v1');
    receiver.setPrivateKey(secret.subarray(0, 32));
    return { text: text(ece.decrypt(bytes(body), { version: encoding, privateKey: receiver, authSecret: text(secret.subarray(32)), salt, dh })) };
  },
  // request makes a whole message as web-push sends it.
  request({ subscription, payload, encoding, vapid }) {
    const r = webpush.generateRequestDetails(subscription, bytes(payload), { contentEncoding: encoding, vapidDetails: vapid, TTL: 60 });
    return { headers: r.headers, body: text(r.body), endpoint: r.endpoint };
  },
  // padded seals with http_ece itself, padding included.
  padded({ subscription, payload, pad }) {
    const sender = crypto.createECDH('prime256v1');
    sender.generateKeys();
    return { body: text(ece.encrypt(bytes(payload), { version: 'aes128gcm', dh: subscription.keys.p256dh, authSecret: subscription.keys.auth, privateKey: sender, pad, rs: 4096 })) };
  },
  // keys makes VAPID keys as web-push does.
  keys: () => webpush.generateVAPIDKeys(),
  // claims verifies a credential of Hark's.
  claims({ authorization }) {
    const [, token, key] = /^vapid t=([^,]+), k=(.+)$/.exec(authorization);
    const [header, claims, signature] = token.split('.');
    const point = bytes(key);
    const jwk = { kty: 'EC', crv: 'P-256', x: text(point.subarray(1, 33)), y: text(point.subarray(33)) };
    const verified = crypto.verify('sha256', Buffer.from(`${header}.${claims}`), { key: crypto.createPublicKey({ key: jwk, format: 'jwk' }), dsaEncoding: 'ieee-p1363' }, bytes(signature));
    return { verified, header: JSON.parse(bytes(header)), claims: JSON.parse(bytes(claims)) };
  },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const q = JSON.parse(line);
  let answer;
  try {
    answer = ops[q.op](q);
  } catch (err) {
    answer = { error: String(err.message ?? err) };
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
}
