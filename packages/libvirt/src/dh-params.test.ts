import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { FFDHE2048_PEM } from './dh-params.ts';

/** Euler's number times 2^bits, rounded down. */
function eulerScaled(bits: bigint): bigint {
  const guard = 64n;
  let term = 1n << (bits + guard);
  let sum = term;
  for (let k = 1n; term > 0n; k++) {
    term /= k;
    sum += term;
  }
  return sum >> guard;
}

test('RFC 7919 §A.1: the prime is the one of the formula and the generator is 2', () => {
  const der = Buffer.from(FFDHE2048_PEM.replace(/-----.*-----/g, ''), 'base64');
  const prime = 2n ** 2048n - 2n ** 1984n + (eulerScaled(1918n) + 560316n) * 2n ** 64n - 1n;
  const expected = Buffer.concat([
    Buffer.from('308201080282010100', 'hex'),
    Buffer.from(prime.toString(16), 'hex'),
    Buffer.from('020102', 'hex'),
  ]);
  assert.deepEqual(der, expected);
});

const openssl = spawnSync('openssl', ['dhparam', '-check', '-noout'], {
  input: FFDHE2048_PEM,
  encoding: 'utf8',
});

test('OpenSSL accepts the parameters', {
  skip: openssl.error === undefined ? false : 'no openssl here',
}, () => {
  assert.equal(openssl.status, 0, openssl.stderr);
  assert.match(openssl.stdout + openssl.stderr, /DH parameters appear to be ok/);
});
