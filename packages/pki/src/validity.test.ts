import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Instant, instant, MINUTE } from '@virt-trust/base/instant.ts';
import fc from 'fast-check';
import { DerReader } from './der/reader.ts';
import { readValidity, validityBetween } from './validity.ts';

const at = fc.integer({ min: 0, max: 4_000_000_000_000 }).map(instant);
const wholeSecond = (time: Instant) => Math.floor(time / 1000) * 1000;

test('RFC 5280 §4.1.2.5: what is shared by certificates of one second is always what was asked for, to the second.', () => {
  fc.assert(
    fc.property(at, fc.array(fc.constantFrom(0, 1, 999, 1000, MINUTE), { minLength: 2 }), (from, steps) => {
      for (const step of steps) {
        const until = instant(from + step);
        const { der, notBefore, notAfter } = validityBetween(from, until);
        assert.deepEqual([notBefore, notAfter], [wholeSecond(from), wholeSecond(until)]);
        const again = readValidity(DerReader.over(der, { what: 'validity' }));
        assert.deepEqual([again.notBefore, again.notAfter], [notBefore, notAfter]);
      }
    }),
  );
});

test('A validity that differs from the known one by an octet is read for itself.', () => {
  const known = validityBetween(instant(0), instant(MINUTE));
  const { der } = validityBetween(instant(0), instant(2 * MINUTE));
  assert.equal(readValidity(DerReader.over(der, { what: 'validity' }), known).notAfter, 2 * MINUTE);
  const same = DerReader.over(known.der, { what: 'validity' });
  assert.equal(readValidity(same, known), known);
  assert.ok(same.done);
});
