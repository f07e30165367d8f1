import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatInstant } from '@virt-trust/base/instant.ts';
import fc from 'fast-check';
import { parseTimeWord, parseVersionWord } from './check-words.ts';

test('a time is read as ISO 8601 with any zone, as seconds or milliseconds, and as OpenSSL prints it', () => {
  for (const word of [
    '2026-11-02T04:00:00Z',
    '2026-11-02T04:00:00.999999Z',
    '2026-11-02T04:00:00+00:00',
    '2026-11-02T05:30:00+01:30',
    '2026-11-01T23:00:00-0500',
    '2026-11-02T04:00:00',
    '2026-11-02 04:00',
    '20261102040000Z',
    '1793592000',
    '1793592000000',
    '@1793592000',
    'Nov  2 04:00:00 2026 GMT',
    'notAfter=Nov  2 04:00:00 2026 GMT',
  ]) {
    assert.equal(formatInstant(parseTimeWord(word)), '2026-11-02T04:00:00Z', word);
  }
  assert.equal(formatInstant(parseTimeWord('2026-11-02')), '2026-11-02T00:00:00Z');
});

test('what is no time is refused, days that no month has among them', () => {
  for (const word of [
    '',
    'now',
    '2026',

    '2026-02-30',
    '2026-13-01',
    '2026-11-02T25:00:00Z',
    '-1',
    'tomorrow',
  ])
    assert.throws(() => parseTimeWord(word), { code: 'check.usage' }, word);
});

test('any text is a time or refused', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      try {
        parseTimeWord(text);
      } catch (error) {
        assert.equal((error as { code?: unknown }).code, 'check.usage');
      }
    }),
  );
});

test('a version is read as programs and packages write it', () => {
  for (const [word, version] of [
    ['9.0.0', '9.0.0'],
    ['11.3', '11.3'],
    ['v10.2.0-rc1', '10.2.0'],
    ['1:7.2+dfsg-7+deb12u18', '7.2'],
    ['7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)', '7.2.22'],
    ['9.0.0-4.el9', '9.0.0'],
  ] as const)
    assert.equal(parseVersionWord('--qemu', word), version);
  for (const word of ['', '9', 'latest', '9.0.0.1', '99999.1'])
    assert.throws(() => parseVersionWord('--qemu', word), /not a version for --qemu/);
});
