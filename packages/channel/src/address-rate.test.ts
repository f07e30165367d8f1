import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Instant, MINUTE } from '@virt-trust/base/instant.ts';
import { AddressRate } from './address-rate.ts';

function rateAt(perMinute: number) {
  const time = { now: 1e12 };
  return { time, rate: new AddressRate({ clock: { now: () => time.now as Instant }, perMinute }) };
}

test('an address gets its share back with time, and none from a clock that is set back', () => {
  const { time, rate } = rateAt(4);
  rate.spend('192.0.2.1', 9);
  assert.equal(rate.allows('192.0.2.1'), false);
  assert.equal(rate.allows('192.0.2.2'), true);
  time.now -= MINUTE;
  assert.equal(rate.allows('192.0.2.1'), false);
  time.now += MINUTE / 4;
  assert.equal(rate.allows('192.0.2.1'), true);
  rate.spend('192.0.2.1', 1);
  assert.equal(rate.allows('192.0.2.1'), false);
});

test('the addresses of one /64 share what one IPv4 address has', () => {
  const { rate } = rateAt(2);
  rate.spend('2001:db8::1', 2);
  assert.equal(rate.allows('2001:db8::ffff:1'), false);
  assert.equal(rate.allows('2001:db8:0:1::1'), true);
});

test('SECURITY: more addresses than are remembered cost no memory', () => {
  const { rate } = rateAt(2);
  rate.spend('192.0.2.1', 2);
  for (let index = 0; index < 5000; index++) rate.spend(`10.0.${index >> 8}.${index & 255}`, 1);
  assert.equal(rate.allows('192.0.2.1'), true, 'the first was forgotten');
});
