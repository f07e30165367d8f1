import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { instant } from '@virt-trust/base/instant.ts';
import type { AlgorithmAge } from './algorithms.ts';
import { parseCertificates } from './certificate.ts';
import { parseCrls } from './crl.ts';
import { statusInCrl } from './crl-status.ts';

interface CrlCase {
  readonly id: string;
  readonly cert: string;
  readonly issuer: string;
  readonly issuer2: string | null;
  readonly crl: string;
  readonly time: string;
  readonly maxAgeSeconds: number;
  readonly expect: 'good' | 'revoked' | 'unknown';
}

const cases = readFileSync(new URL('testdata/crl-status.jsonl', import.meta.url), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as CrlCase);

function judge(row: CrlCase, algorithms: AlgorithmAge): { verdict: CrlCase['expect']; reason: string } {
  try {
    const [certificate] = parseCertificates(row.cert, 'tolerant');
    if (certificate === undefined) throw new Error('no certificate');
    const issuers = [row.issuer, row.issuer2 ?? ''].filter((pem) => pem !== '');
    const status = statusInCrl({
      certificate,
      issuers: issuers.flatMap((pem) => parseCertificates(pem, 'tolerant')),
      crls: parseCrls(row.crl),
      at: instant(Date.parse(row.time)),
      maxAge: row.maxAgeSeconds * 1000,
      conformance: 'tolerant',
      algorithms,
    });
    return { verdict: status.kind, reason: status.kind === 'unknown' ? status.why.message : '' };
  } catch (error) {
    if (!isTrustError(error)) throw error;
    return { verdict: 'unknown', reason: error.message };
  }
}

for (const row of cases) {
  test(`RFC 5280 §6.3: BoringSSL's row ${row.id} is ${row.expect}`, (context) => {
    const { verdict, reason } = judge(row, 'legacy');
    context.diagnostic(reason);
    assert.equal(verdict, row.expect, reason);
  });
}

test('SECURITY: with the algorithms that are trusted no row is good that should not be', () => {
  // The rows were signed with RSA keys of 1,024 bits, so nothing may be learnt from them.
  for (const row of cases) assert.equal(judge(row, 'current').verdict, 'unknown', row.id);
});
