// The npm package standardwebhooks, unmodified, and what the published Node client does, for webhook.rs: reads a list of
// tasks as JSON from stdin, prints what became of each. {"secret", "key", "headers", "body"} gives {"standard": payload,
// or "refused: " and why} by `secret` (whsec_…), and {"raw", "reserialised"}: whether the hex HMAC of the body by `key` is
// in the header, over the bytes that came and over what JSON.stringify makes of them.

import { createHmac, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { Webhook, WebhookVerificationError } from 'standardwebhooks';

function standard({ secret, headers, body }) {
  try {
    return new Webhook(secret).verify(body, headers);
  } catch (refusal) {
    if (!(refusal instanceof WebhookVerificationError)) throw refusal;
    return `refused: ${refusal.message}`;
  }
}

// As @bondify/node 3 does: lower-case hex, no prefix, compared in constant time.
function matches(text, key, header) {
  const expected = Buffer.from(createHmac('sha256', key).update(text).digest('hex'), 'hex');
  const presented = Buffer.from(header, 'hex');
  return expected.length === presented.length && timingSafeEqual(expected, presented);
}

function done(task) {
  const header = task.headers['x-bondify-signature'];
  return {
    standard: standard(task),
    raw: matches(task.body, task.key, header),
    reserialised: matches(JSON.stringify(JSON.parse(task.body)), task.key, header),
  };
}

console.log(JSON.stringify(JSON.parse(readFileSync(process.stdin.fd, 'utf8')).map(done)));
