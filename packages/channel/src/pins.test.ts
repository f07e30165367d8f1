import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isSpkiPin } from '@virt-trust/base/spki-pin.ts';
import fc from 'fast-check';
import { madeUpPin } from './fixtures.ts';
import { PinSet, requireSeparateRoles } from './pins.ts';

test('a set trusts each of its pins and no other', () => {
  const set = new PinSet('agent', [madeUpPin('now'), madeUpPin('next')]);
  assert.equal(set.isTrusted(madeUpPin('now')), true);
  assert.equal(set.isTrusted(madeUpPin('next')), true);
  assert.equal(set.isTrusted(madeUpPin('other')), false);
  assert.equal(new PinSet('agent', []).isTrusted(madeUpPin('now')), false);
});

test('one pin may not stand in both roles', () => {
  const pin = madeUpPin('one key');
  assert.throws(() => requireSeparateRoles(new PinSet('agent', [pin]), new PinSet('manager', [pin])), {
    code: 'channel.pin_role',
  });
  requireSeparateRoles(new PinSet('agent', [pin]), new PinSet('agent', [pin]), new PinSet('manager', []));
});

test('a set of texts is made of well-formed pins only', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.base64String({ minLength: 43, maxLength: 44 }).map((text) => `sha256:${text}`),
      ),
      (text) => {
        if (isSpkiPin(text)) assert.deepEqual(new PinSet('manager', [text]).pins, [text]);
        else assert.throws(() => new PinSet('manager', [text]), { code: 'pin.malformed' });
      },
    ),
  );
});
