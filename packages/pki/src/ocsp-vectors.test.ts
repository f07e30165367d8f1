import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { instant } from '@virt-trust/base/instant.ts';
import type { AlgorithmAge } from './algorithms.ts';
import { parseCertificates } from './certificate.ts';
import { encodeCertId, issuerHashes } from './ocsp-cert-id.ts';
import { encodeOcspRequest, parseOcspRequest } from './ocsp-request.ts';
import { parseOcspResponse } from './ocsp-response.ts';
import { statusInOcspResponse } from './ocsp-verify.ts';

interface OcspCase {
  readonly id: string;
  readonly cert: string;
  readonly issuer: string;
  readonly responseB64: string;
  readonly requestB64: string | null;
  readonly time: string;
  readonly maxAgeSeconds: number;
  readonly expect: 'good' | 'revoked' | 'unknown';
}

const cases = readFileSync(new URL('testdata/ocsp-status.jsonl', import.meta.url), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as OcspCase);

function certificateOf(pem: string) {
  const [certificate] = parseCertificates(pem, 'tolerant');
  if (certificate === undefined) throw new Error('no certificate');
  return certificate;
}

function judge(row: OcspCase, algorithms: AlgorithmAge): { verdict: OcspCase['expect']; reason: string } {
  try {
    const response = parseOcspResponse(Buffer.from(row.responseB64, 'base64'));
    const status = statusInOcspResponse(response, certificateOf(row.cert), {
      issuer: certificateOf(row.issuer),
      at: instant(Date.parse(row.time)),
      maxAge: row.maxAgeSeconds * 1000,
      algorithms,
    });
    return { verdict: status.kind, reason: status.kind === 'unknown' ? status.why.message : '' };
  } catch (error) {
    if (!isTrustError(error)) throw error;
    return { verdict: 'unknown', reason: error.message };
  }
}

for (const row of cases) {
  test(`RFC 6960 §3.2: BoringSSL's row ${row.id} is ${row.expect}`, (context) => {
    const { verdict, reason } = judge(row, 'legacy');
    context.diagnostic(reason);
    assert.equal(verdict, row.expect, reason);
  });
}

test('SECURITY: with the algorithms that are trusted no row is good that should not be', () => {
  // The rows were signed with SHA-1, so nothing may be learnt from them.
  for (const row of cases) assert.equal(judge(row, 'current').verdict, 'unknown', row.id);
});

test('RFC 6960 §4.1.1: our requests are those of the rows, octet by octet', () => {
  let compared = 0;
  for (const row of cases) {
    if (row.requestB64 === null) continue;
    const request = Buffer.from(row.requestB64, 'base64');
    const [certId] = parseOcspRequest(request).certIds;
    const certificate = certificateOf(row.cert);
    assert.equal(certId?.serialNumber, certificate.serialNumber, row.id);
    // One row has a serial number that is not in its shortest form, which we do not write.
    if (row.id.includes('invalid_serial')) continue;
    const ours = encodeCertId(issuerHashes(certificateOf(row.issuer), 'sha1'), certificate.serialNumber);
    // Where the row leaves out the digest's NULL, only the CertID's length differs.
    const expected = Buffer.from(certId?.der ?? []);
    if (expected.length !== ours.length) continue;
    assert.equal(Buffer.from(encodeOcspRequest([ours])).toString('hex'), request.toString('hex'), row.id);
    compared++;
  }
  assert.ok(compared > 10, `${compared} compared`);
});
