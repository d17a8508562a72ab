// The jose library as an issuer of tokens: one JSON question a line on stdin, one answer
// a line on stdout.
//
//   {"do": "keys"}                        → {"set": JWK set, "pem": {alg: PEM}, "secret"}
//   {"do": "sign", "alg", "kid", "claims"} → {"token"}
//   {"do": "verify", "token"}              → {"ok"}, with "why" where it is refused
import { createInterface } from 'node:readline';

import { SignJWT, createLocalJWKSet, exportJWK, exportSPKI, generateKeyPair, jwtVerify } from 'jose';

const secret = 'a secret of more than thirty-two bytes';
const pairs = {};
for (const alg of ['ES256', 'EdDSA', 'RS256']) {
  pairs[alg] = await generateKeyPair(alg, { extractable: true });
}
const set = { keys: [] };
const pem = {};
for (const [alg, { publicKey }] of Object.entries(pairs)) {
  set.keys.push({ ...(await exportJWK(publicKey)), kid: alg.toLowerCase(), alg, use: 'sig' });
  pem[alg] = await exportSPKI(publicKey);
}
const published = createLocalJWKSet(set);
const symmetric = new TextEncoder().encode(secret);
const find = (header, token) => (header.alg === 'HS256' ? symmetric : published(header, token));

async function answer({ do: what, alg, kid, claims, token }) {
  switch (what) {
    case 'keys':
      return { set, pem, secret };
    case 'sign':
      return { token: await new SignJWT(claims).setProtectedHeader({ alg, kid, typ: 'JWT' }).sign(alg === 'HS256' ? symmetric : pairs[alg].privateKey) };
    case 'verify':
      try {
        await jwtVerify(token, find, { algorithms: ['HS256', 'ES256', 'EdDSA', 'RS256'] });
        return { ok: true };
      } catch (err) {
        return { ok: false, why: String(err?.message ?? err) };
      }
  }
  return { error: 'what is ' + what };
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
