import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { instant } from '@virt-trust/base/instant.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import fc from 'fast-check';
import type { Certificate } from './certificate.ts';
import { type Crl, parseCrl, parseCrls } from './crl.ts';
import type { CrlEntryFields } from './crl-entry.ts';
import { EncodedCrlEntries, issueCrl } from './crl-issue.ts';
import { type CrlReason, crlReasonOfCode } from './crl-reason.ts';
import { statusInCrl } from './crl-status.ts';
import { sequence } from './der/writer.ts';
import { parseDistributionPoints } from './distribution-point.ts';
import { generatePrivateKey } from './key.ts';
import { encodeCertId, issuerHashes } from './ocsp-cert-id.ts';
import { prepareOcspSigner, signOcspResponse } from './ocsp-issue.ts';
import { encodeOcspRequest, parseOcspRequest } from './ocsp-request.ts';
import { parseOcspResponse } from './ocsp-response.ts';
import { statusInOcspResponse } from './ocsp-verify.ts';
import { newSerialNumber } from './serial-number.ts';
import { inDays, issueLeaf, makeAuthority, NOW, type TestAuthority } from './test-support.ts';

let authority: TestAuthority;
let leaf: Certificate;
let request: Uint8Array;
let revoking: Uint8Array;
let crl: Uint8Array;
let response: Uint8Array;

const REASONS = [0, 1, 2, 3, 4, 5, 6, 9, 10].map((code) => crlReasonOfCode(code) as CrlReason);

before(async () => {
  authority = await makeAuthority();
  leaf = issueLeaf(authority.issuer, 'migration', await generatePrivateKey('ecdsa-p256-sha256'));
  const certId = encodeCertId(issuerHashes(authority.issuing, 'sha256'), leaf.serialNumber);
  const nonce = systemRandomness.bytes(16);
  request = encodeOcspRequest([certId, certId], nonce);
  const status = { kind: 'revoked', at: inDays(-1), reason: 'keyCompromise' } as const;
  const answers = [{ certId, status, thisUpdate: NOW, nextUpdate: inDays(1) }];
  const signer = prepareOcspSigner(authority.issuing, authority.issuer.key);
  response = signOcspResponse(signer, { producedAt: NOW, answers, nonce });
  const entry = (serialNumber = newSerialNumber(systemRandomness)): CrlEntryFields => ({
    serialNumber,
    revocationDate: inDays(-1),
    reason: 'superseded',
    invalidityDate: inDays(-2),
  });
  const fields = { number: 5n, thisUpdate: NOW, nextUpdate: inDays(1) };
  revoking = issueCrl(authority.issuer, { ...fields, entries: [entry(), entry(leaf.serialNumber)] });
  crl = issueCrl(authority.issuer, { ...fields, entries: [entry(), entry()] });
});

/** The result, or undefined where it was refused; anything but a TrustError fails the test. */
function survives<Result>(parse: () => Result): Result | undefined {
  try {
    return parse();
  } catch (error) {
    if (!isTrustError(error)) throw error;
    return undefined;
  }
}

function mutate(bytes: Uint8Array, changes: readonly (readonly [number, number, number])[]): Uint8Array {
  const list = [...bytes];
  for (const [place, kind, value] of changes) {
    const at = place % Math.max(1, list.length);
    if (kind === 0) list[at] = value;
    else if (kind === 1) list.splice(at, 1 + (value & 3));
    else list.splice(at, 0, value);
  }
  return Uint8Array.from(list);
}

const edits = fc.array(fc.tuple(fc.nat(4000), fc.nat(2), fc.nat(255)), { minLength: 1, maxLength: 4 });
const askCrls = (crls: readonly Crl[]) =>
  statusInCrl({ certificate: leaf, issuers: [authority.issuing], crls, at: NOW });

test('parsers of CRLs and OCSP answer any bytes with a value or a TrustError', () => {
  const parsers = [parseCrl, parseOcspRequest, parseOcspResponse, parseDistributionPoints];
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      for (const parse of parsers) survives(() => parse(bytes));
    }),
    { numRuns: 2000 },
  );
});

test('SECURITY: a damaged CRL never makes a revoked certificate good', () => {
  fc.assert(
    fc.property(edits, (changes) => {
      const damaged = mutate(revoking, changes);
      const status = survives(() => askCrls([parseCrl(damaged)]));
      assert.notEqual(status?.kind, 'good');
    }),
    { numRuns: 3000 },
  );
});

test('SECURITY: a damaged CRL never revokes a certificate that is not on it', () => {
  fc.assert(
    fc.property(edits, (changes) => {
      const status = survives(() => askCrls([parseCrl(mutate(crl, changes))]));
      assert.notEqual(status?.kind, 'revoked');
    }),
    { numRuns: 2000 },
  );
});

test('SECURITY: a damaged OCSP answer never makes a revoked certificate good', () => {
  fc.assert(
    fc.property(edits, (changes) => {
      const demands = { issuer: authority.issuing, at: NOW };
      const status = survives(() =>
        statusInOcspResponse(parseOcspResponse(mutate(response, changes)), leaf, demands),
      );
      assert.notEqual(status?.kind, 'good');
      survives(() => parseOcspRequest(mutate(request, changes)));
    }),
    { numRuns: 3000 },
  );
});

test('RFC 5280 §5.1.2.6: any entries come back from their CRL in their order', () => {
  const serial = fc
    .uint8Array({ minLength: 1, maxLength: 20 })
    .filter((octets) => octets[0] !== 0 && (octets.length < 20 || (octets[0] as number) < 0x80))
    .map((octets) => Buffer.from(octets).toString('hex') as CrlEntryFields['serialNumber']);
  const when = fc.integer({ min: -20_000, max: 40_000 }).map((days) => instant(days * 86_400_000));
  const entry = fc.record(
    {
      serialNumber: serial,
      revocationDate: when,
      reason: fc.constantFrom(...REASONS),
      invalidityDate: fc.option(when, { nil: undefined }),
    },
    { noNullPrototype: true },
  );
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 20 }), (entries) => {
      const fields = entries.map(({ invalidityDate, ...rest }) =>
        invalidityDate === undefined ? rest : { ...rest, invalidityDate },
      );
      const times = { number: 1n, thisUpdate: NOW, nextUpdate: inDays(1) };
      const back = parseCrl(issueCrl(authority.issuer, { ...times, entries: fields }));
      assert.deepEqual([...back.entries], entries);
    }),
    { numRuns: 200 },
  );
});

test('lengths that lie and nesting without end are refused', () => {
  const header = '3082ffff3082ff00';
  for (const hex of ['3084ffffffff30', '30847fffffff30', '3080', header, `${header}020101`]) {
    assert.equal(
      survives(() => parseCrl(Buffer.from(hex, 'hex'))),
      undefined,
    );
  }
  let nested: Uint8Array = new Uint8Array(0);
  for (let depth = 0; depth < 5000; depth++) nested = sequence(nested);
  for (const parse of [parseCrl, parseOcspRequest, parseOcspResponse, parseDistributionPoints]) {
    assert.equal(
      survives(() => parse(nested)),
      undefined,
    );
  }
  assert.equal(
    survives(() => parseCrl(new Uint8Array(1 << 24))),
    undefined,
  );
  assert.equal(
    survives(() => parseCrl(crl, { maxBytes: 100 })),
    undefined,
  );
});

test('SECURITY: a hundred thousand entries of one serial number, or with extensions of their own, cost no more than their octets', () => {
  const encoded = new EncodedCrlEntries();
  const same = newSerialNumber(systemRandomness);
  for (let count = 0; count < 100_000; count++) {
    encoded.add({ serialNumber: same, revocationDate: NOW, reason: 'superseded', invalidityDate: NOW });
  }
  encoded.add({ serialNumber: leaf.serialNumber, revocationDate: NOW, reason: 'unspecified' });
  const times = { number: 1n, thisUpdate: NOW, nextUpdate: inDays(1) };
  const large = parseCrl(issueCrl(authority.issuer, { ...times, entries: encoded }));
  assert.equal(large.entries.count, 100_001);
  for (let count = 0; count < 100; count++) {
    assert.equal(large.entries.find(same, leaf.issuer, large.issuer)?.serialNumber, same);
    assert.equal(large.entries.find(leaf.serialNumber, leaf.issuer, large.issuer)?.reason, 'unspecified');
  }
});

test('SECURITY: with too many CRLs of the issuer the answer is unknown, unless one of them revokes', () => {
  const good = parseCrl(crl);
  const many = (one: Crl, count: number) => Array.from({ length: count }, () => one);
  const status = askCrls(many(good, 1000));
  assert.ok(status.kind === 'unknown' && status.why.code === 'crl.too_many');
  assert.equal(askCrls([parseCrl(revoking), ...many(good, 1000)]).kind, 'revoked');
  assert.equal(askCrls(many(good, 20)).kind, 'good');
});

test('requests and answers with too many parts are refused', () => {
  const certId = encodeCertId(issuerHashes(authority.issuing, 'sha1'), leaf.serialNumber);
  assert.throws(() => parseOcspRequest(encodeOcspRequest(Array.from({ length: 100 }, () => certId))));
  for (const length of [0, 129]) {
    assert.throws(() => parseOcspRequest(encodeOcspRequest([certId], new Uint8Array(length))), /nonce/);
  }
  const point = sequence();
  assert.throws(() => parseDistributionPoints(sequence(...Array.from({ length: 100 }, () => point))));
  assert.throws(() => parseCrls('-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n'));
});
