import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { parseInstant } from '@virt-trust/base/instant.ts';
import fc from 'fast-check';
import { decodeOid, encodeOid } from './oid.ts';
import { DerReader, TAG } from './reader.ts';
import { encodeTime, readTime } from './time.ts';
import { element, sequence, smallInteger } from './writer.ts';

const over = (hex: string) => DerReader.over(Buffer.from(hex, 'hex'), { what: 'test' });
const malformed = (error: unknown) => isTrustError(error, 'der.malformed');

test('X.690 §10.1: lengths that are indefinite, padded or too long are refused', () => {
  for (const hex of ['308000', '30810100', '3082000100', '30850000000001', '3003', '30']) {
    assert.throws(() => over(hex).sequence(), malformed, hex);
  }
});

test('X.690 §8.3.2: an INTEGER that is empty or not in its shortest form is refused', () => {
  for (const hex of ['0200', '02020001', '0202ff80'])
    assert.throws(() => over(hex).integer(), malformed, hex);
  assert.equal(over('02020080').smallInteger(), 128);
  assert.throws(() => over('0201ff').smallInteger(), malformed);
});

test('X.690 §11: booleans, bit strings and tags have one form only', () => {
  assert.throws(() => over('010101').boolean(), malformed);
  assert.throws(() => over('03020001').namedBits() && over('03020780').finish(), malformed);
  assert.throws(() => over('03020200').namedBits(), malformed);
  assert.throws(() => over('03020101').namedBits(), malformed);
  assert.deepEqual(over('03020106').namedBits(), [5, 6]);
  assert.throws(() => over('1f8101').element(), malformed);
});

test('nesting and size are bounded', () => {
  let nested: Uint8Array = sequence();
  for (let depth = 0; depth < 40; depth++) nested = sequence(nested);
  const dive = (reader: DerReader): void => {
    if (!reader.done) dive(reader.sequence());
  };
  assert.throws(() => dive(DerReader.over(nested, { what: 'test' })), malformed);
  assert.throws(
    () => DerReader.over(new Uint8Array(11), { what: 'test', maxBytes: 10 }),
    (error) => isTrustError(error, 'der.too_large'),
  );
});

test('an element that reaches past its holder is refused', () => {
  const inner = over('30040204010203').sequence();
  assert.throws(() => inner.integer(), malformed);
});

test('an element of any length is read back as it was written', () => {
  for (const length of [0, 127, 128, 255, 256, 65_535, 65_536]) {
    const content = new Uint8Array(length).fill(7);
    const reader = DerReader.over(element(TAG.octetString, content), { what: 'test' });
    assert.equal(Buffer.compare(reader.content(TAG.octetString), content), 0);
    reader.finish();
  }
});

test('integers and object identifiers are read back as they were written', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0x7fffffff }), (value) => {
      assert.equal(DerReader.over(smallInteger(value), { what: 'test' }).smallInteger(), value);
    }),
  );
  const arcs = fc.tuple(fc.integer({ min: 0, max: 39 }), fc.array(fc.nat(), { minLength: 1, maxLength: 8 }));
  fc.assert(
    fc.property(arcs, ([second, rest]) => {
      const dotted = ['2', second, ...rest].join('.');
      assert.equal(decodeOid(encodeOid(dotted)), dotted);
    }),
  );
  assert.equal(decodeOid(Uint8Array.of(0x80, 1)), undefined);
  assert.equal(decodeOid(Uint8Array.of(0x55, 0x9d)), undefined);
});

test('RFC 5280 §4.1.2.5: times until 2049 are UTCTime, later ones GeneralizedTime', () => {
  const cases: [string, number, string][] = [
    ['2049-12-31T23:59:59Z', TAG.utcTime, '491231235959Z'],
    ['2050-01-01T00:00:00Z', TAG.generalizedTime, '20500101000000Z'],
    ['9999-12-31T23:59:59Z', TAG.generalizedTime, '99991231235959Z'],
    ['1950-01-01T00:00:00Z', TAG.utcTime, '500101000000Z'],
  ];
  for (const [text, tag, content] of cases) {
    const der = encodeTime(parseInstant(text));
    assert.equal(Buffer.compare(der, element(tag, Buffer.from(content))), 0, text);
    assert.equal(readTime(DerReader.over(der, { what: 'time' })), parseInstant(text));
  }
});

test('RFC 5280 §4.1.2.5: times in other forms, or that do not exist, are refused', () => {
  const utc = [
    '2611220400Z',
    '261122040000',
    '261322040000Z',
    '260230040000Z',
    '261122040060Z',
    '26112204000AZ',
  ];
  for (const text of utc) {
    const der = element(TAG.utcTime, Buffer.from(text));
    assert.throws(() => readTime(DerReader.over(der, { what: 'time' })), malformed, text);
  }
  for (const text of ['20261122040000Z', '20500101000000.5Z', '20500101000000+0100']) {
    const der = element(TAG.generalizedTime, Buffer.from(text));
    assert.throws(() => readTime(DerReader.over(der, { what: 'time' })), malformed, text);
  }
});
