import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { DAY, instant } from '@virt-trust/base/instant.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import type { Certificate } from './certificate.ts';
import { encodeCrlsPem, parseCrl, parseCrls } from './crl.ts';
import type { CrlEntryFields } from './crl-entry.ts';
import { EncodedCrlEntries, issueCrl } from './crl-issue.ts';
import { formatCrlNumber, parseCrlNumber } from './crl-number.ts';
import { type CrlReason, crlReasonCode, crlReasonOfCode } from './crl-reason.ts';
import { type CrlQuestion, statusInCrl } from './crl-status.ts';
import { verifyCrl } from './crl-verify.ts';
import { generatePrivateKey } from './key.ts';
import { newSerialNumber } from './serial-number.ts';
import { inDays, issueLeaf, makeAuthority, NOW, type TestAuthority } from './test-support.ts';

let authority: TestAuthority;
let other: TestAuthority;
let leaf: Certificate;

before(async () => {
  authority = await makeAuthority();
  // The same names, other keys.
  other = await makeAuthority();
  leaf = issueLeaf(authority.issuer, 'migration', await generatePrivateKey('ecdsa-p256-sha256'));
});

const entry = (serialNumber = newSerialNumber(systemRandomness), reason: CrlReason = 'keyCompromise') =>
  ({ serialNumber, reason, revocationDate: inDays(-1) }) satisfies CrlEntryFields;

function issue(entries: readonly CrlEntryFields[], fields: { number?: bigint; days?: number } = {}) {
  const from = fields.days ?? 0;
  const der = issueCrl(authority.issuer, {
    number: fields.number ?? 1n,
    thisUpdate: inDays(from),
    nextUpdate: inDays(from + 7),
    entries,
  });
  return parseCrl(der);
}

const ask = (fields: Partial<CrlQuestion>) =>
  statusInCrl({ certificate: leaf, issuers: [authority.issuing], crls: [], at: NOW, ...fields });

test('RFC 5280 §5: a CRL comes back as it was issued', () => {
  const entries = [
    { ...entry(), invalidityDate: inDays(-3) },
    entry(undefined, 'unspecified'),
    entry(undefined, 'cessationOfOperation'),
  ];
  const crl = issue(entries, { number: 0xabcdefn });
  assert.equal(crl.version, 2);
  assert.equal(crl.extensions.crlNumber, 0xabcdefn);
  assert.equal(crl.thisUpdate, NOW);
  assert.equal(crl.nextUpdate, inDays(7));
  assert.deepEqual(crl.extensions.authorityKeyIdentifier?.keyIdentifier, authority.issuer.keyIdentifier);
  assert.deepEqual(
    [...crl.entries],
    entries.map((fields) => ({ invalidityDate: undefined, ...fields })),
  );
  const evidence = verifyCrl(crl, [authority.root, other.issuing, authority.issuing], { at: NOW });
  assert.equal(evidence.issuer, authority.issuing);
});

test('RFC 5280 §5.1.2.6: a CRL without entries has no list of them', () => {
  assert.equal(issue([]).entries.count, 0);
});

test('RFC 5280 §5.2.3: CRL numbers have up to 20 octets', () => {
  const most = (1n << 159n) - 1n;
  assert.equal(issue([], { number: most }).extensions.crlNumber, most);
  assert.equal(issue([], { number: 128n }).extensions.crlNumber, 128n);
  assert.equal(issue([], { number: 0n }).extensions.crlNumber, 0n);
  for (const number of [1n << 159n, -1n]) assert.throws(() => issue([], { number }), /out of range/);
  assert.equal(formatCrlNumber(parseCrlNumber('0a1b')), 'a1b');
  assert.throws(
    () => parseCrlNumber('A'),
    (error) => isTrustError(error, 'crl.number_malformed'),
  );
});

test('RFC 5280 §5.3.1: reasons have their numbers', () => {
  const numbers = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
  const back = numbers.map((code) => {
    const reason = crlReasonOfCode(code);
    return reason === undefined ? undefined : crlReasonCode(reason);
  });
  assert.deepEqual(back, [0, 1, 2, 3, 4, 5, 6, undefined, 8, 9, 10, undefined]);
});

test('RFC 5280 §6.3.3: a certificate is good, revoked or unknown', () => {
  const revoking = issue([entry(), entry(leaf.serialNumber, 'superseded'), entry()]);
  const silent = issue([entry()], { number: 2n });
  assert.equal(ask({ crls: [silent] }).kind, 'good');
  const status = ask({ crls: [silent, revoking] });
  assert.ok(status.kind === 'revoked');
  assert.equal(status.reason, 'superseded');
  assert.equal(status.at, inDays(-1));
  const none = ask({});
  assert.ok(none.kind === 'unknown' && none.why.code === 'crl.none');
});

test('RFC 5280 §5.3.1: a hold ends with a later CRL that no longer has it, another revocation never', () => {
  const held = issue([entry(leaf.serialNumber, 'certificateHold')], { days: -2 });
  const later = issue([], { number: 2n, days: -1 });
  assert.equal(ask({ crls: [held] }).kind, 'revoked');
  assert.equal(ask({ crls: [held, later] }).kind, 'good');
  assert.equal(ask({ crls: [issue([entry(leaf.serialNumber)], { days: -2 }), later] }).kind, 'revoked');
});

test('SECURITY: a CRL of another key says nothing, whatever its issuer’s name', () => {
  const forged = issueCrl(other.issuer, {
    number: 9n,
    thisUpdate: NOW,
    nextUpdate: inDays(7),
    entries: [entry(leaf.serialNumber)],
  });
  const status = ask({ crls: [parseCrl(forged)] });
  assert.ok(status.kind === 'unknown' && status.why.code === 'crl.signature', JSON.stringify(status));
});

test('SECURITY: an overdue CRL proves nothing good, and its revocations stay', () => {
  const at = inDays(8);
  const silent = ask({ crls: [issue([])], at });
  assert.ok(silent.kind === 'unknown' && silent.why.code === 'crl.stale');
  assert.equal(ask({ crls: [issue([entry(leaf.serialNumber)])], at }).kind, 'revoked');
  assert.equal(ask({ crls: [issue([])], at: instant(inDays(7) + 999) }).kind, 'good');
  const early = ask({ crls: [issue([entry(leaf.serialNumber)], { days: 1 })] });
  assert.ok(early.kind === 'unknown' && early.why.code === 'crl.not_yet_valid');
  assert.equal(ask({ crls: [issue([], { days: 1 })], clockSkew: 2 * DAY }).kind, 'good');
  const old = ask({ crls: [issue([])], at: inDays(3), maxAge: DAY });
  assert.ok(old.kind === 'unknown' && old.why.code === 'crl.stale');
});

test('a CRL with many lookups answers from its index as without', () => {
  const entries = Array.from({ length: 300 }, () => entry());
  const crl = issue([...entries, entry(leaf.serialNumber)]);
  for (const { serialNumber } of entries) {
    const found = crl.entries.find(serialNumber, leaf.issuer, crl.issuer);
    assert.equal(found?.serialNumber, serialNumber);
    const absent = newSerialNumber(systemRandomness);
    assert.equal(crl.entries.find(absent, leaf.issuer, crl.issuer), undefined);
  }
});

test('RFC 7468 §7: several CRLs stand one after the other in one file', () => {
  const crls = [issue([entry()]), issue([], { number: 2n })];
  const back = parseCrls(`found\n${encodeCrlsPem(crls)}`);
  assert.deepEqual(
    back.map(({ der }) => Buffer.from(der).toString('hex')),
    crls.map(({ der }) => Buffer.from(der).toString('hex')),
  );
  assert.throws(
    () => parseCrls('nothing'),
    (error) => isTrustError(error, 'crl.missing'),
  );
});

test('one entry more is appended to what is encoded already', () => {
  const encoded = EncodedCrlEntries.of(Array.from({ length: 1000 }, () => entry()));
  encoded.add(entry(leaf.serialNumber));
  const fields = { number: 1n, thisUpdate: NOW, nextUpdate: inDays(7) };
  const crl = parseCrl(issueCrl(authority.issuer, { ...fields, entries: encoded }));
  assert.equal(crl.entries.count, 1001);
  assert.equal(encoded.count, 1001);
  assert.equal(ask({ crls: [crl] }).kind, 'revoked');
});
