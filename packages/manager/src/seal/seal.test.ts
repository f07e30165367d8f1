import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import fc from 'fast-check';
import { Seal } from './seal.ts';
import { encodeSealKeys, parseSealKeys, sealKeyOf } from './seal-key.ts';

const key = sealKeyOf(systemRandomness.bytes(32));
const seal = new Seal([key], systemRandomness);
const place = { table: 'authorities', row: 'control', column: 'private_key' };
const broken = (error: unknown): boolean => isTrustError(error, 'seal.broken');

test('what is sealed comes back at its place, and is nowhere in the sealed bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 8 }), (plaintext) => {
      const sealed = seal.seal(place, plaintext);
      assert.equal(Buffer.from(sealed).includes(plaintext), false);
      assert.deepEqual(Buffer.from(seal.open(place, sealed)), Buffer.from(plaintext));
    }),
  );
});

test('a value that was moved to another table, row or column does not open', () => {
  const sealed = seal.seal(place, Buffer.from('secret'));
  for (const moved of [{ table: 'hosts' }, { row: 'migration' }, { column: 'other' }]) {
    assert.throws(() => seal.open({ ...place, ...moved }, sealed), broken);
  }
});

test('places whose parts run together differently are different places', () => {
  const sealed = seal.seal({ table: 'a', row: 'b","c', column: 'd' }, Buffer.from('secret'));
  assert.throws(() => seal.open({ table: 'a', row: 'b', column: 'c","d' }, sealed), broken);
});

test('a value with any bit changed, cut or made longer does not open', () => {
  const sealed = seal.seal(place, Buffer.from('secret'));
  fc.assert(
    fc.property(fc.nat(sealed.length * 8 - 1), (bit) => {
      const altered = Buffer.from(sealed);
      altered[bit >> 3] = (altered[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      assert.throws(() => seal.open(place, altered), isTrustError);
    }),
  );
  for (let length = 0; length < sealed.length; length++) {
    assert.throws(() => seal.open(place, sealed.subarray(0, length)), broken);
  }
  assert.throws(() => seal.open(place, Buffer.concat([sealed, Buffer.of(0)])), broken);
});

test('the same value sealed twice is not the same bytes', () => {
  assert.notDeepEqual(seal.seal(place, Buffer.from('x')), seal.seal(place, Buffer.from('x')));
});

test('another key does not open it, and the error names the key that is missing and not the value', () => {
  const other = new Seal([sealKeyOf(systemRandomness.bytes(32))], systemRandomness);
  const sealed = seal.seal(place, Buffer.from('secret'));
  assert.throws(
    () => other.open(place, sealed),
    (error) => isTrustError(error, 'seal.key_unknown') && error.message.includes(key.id),
  );
});

test('a key file is read as it was written, and nothing else is', () => {
  const keys = [key, sealKeyOf(systemRandomness.bytes(32))];
  assert.deepEqual(
    parseSealKeys(encodeSealKeys(keys), 'f'),
    keys.map(({ id, secret }) => ({ id, secret })),
  );
  fc.assert(
    fc.property(fc.string(), (content) => {
      try {
        for (const parsed of parseSealKeys(content, 'f')) assert.equal(parsed.secret.length, 32);
      } catch (error) {
        assert.ok(isTrustError(error, 'seal.key_malformed'));
        assert.equal(content.length > 20 && error.message.includes(content), false);
      }
    }),
  );
});
