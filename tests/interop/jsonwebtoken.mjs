// The npm package jsonwebtoken, unmodified, for proof.rs: reads a list of tasks as JSON from stdin, prints what became of
// each. {"verify": token, "secret", "at"?} gives {"header", "claims"} or {"refused": "name: message" of its error}; `at`
// (Unix seconds) is when it is looked at, now unless said. {"sign": claims, "secret", "algorithm"} gives {"token"}.

import { readFileSync } from 'node:fs';
import process from 'node:process';
import jwt from 'jsonwebtoken';

function done(task) {
  if (task.sign) {
    const secret = task.algorithm === 'none' ? undefined : task.secret;
    return { token: jwt.sign(task.sign, secret, { algorithm: task.algorithm }) };
  }
  try {
    const found = jwt.verify(task.verify, task.secret, { algorithms: ['HS256'], clockTimestamp: task.at, complete: true });
    return { header: found.header, claims: found.payload };
  } catch (refusal) {
    if (!(refusal instanceof jwt.JsonWebTokenError)) throw refusal;
    return { refused: `${refusal.name}: ${refusal.message}` };
  }
}

console.log(JSON.stringify(JSON.parse(readFileSync(process.stdin.fd, 'utf8')).map(done)));
