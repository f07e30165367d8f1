import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { addressGuard } from './address-guard.ts';

test('the guard admits the managers and the host itself, in every form an address is reported in', () => {
  const admits = addressGuard(['192.0.2.7', '2001:DB8::7']);
  for (const address of [
    '192.0.2.7',
    '::ffff:192.0.2.7',
    '2001:db8:0::7',
    '127.0.0.1',
    '::1',
    '::ffff:127.1.2.3',
  ])
    assert.equal(admits(address), true, address);
  for (const address of [
    '192.0.2.8',
    '::ffff:192.0.2.8',
    '2001:db8::8',
    '',
    'localhost',
    'fe80::1%eth0',
    '128.0.0.1',
  ])
    assert.equal(admits(address), false, address);
});

test('no text that is not an address is admitted', () => {
  const admits = addressGuard(['192.0.2.7']);
  fc.assert(
    fc.property(fc.string(), (text) => {
      fc.pre(!/[0-9a-f]/i.test(text));
      return !admits(text);
    }),
  );
});
