import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { instant } from '@virt-trust/base/instant.ts';
import { parseCertificates } from './certificate.ts';
import { parseCrls } from './crl.ts';
import { statusInCrl } from './crl-status.ts';
import { parseHostName } from './general-name.ts';
import { type VerifiedPath, verifyPath } from './path.ts';

interface LimboCase {
  readonly id: string;
  readonly trust: readonly string[];
  readonly leaf: string;
  readonly inter: readonly string[];
  readonly crls: readonly string[];
  readonly time: string | null;
  readonly purpose: 'server' | 'client';
  readonly host: { readonly kind: 'DNS' | 'IP' | 'RFC822'; readonly value: string } | null;
  readonly maxDepth: number | null;
  readonly revocation: 'none' | 'require';
  readonly expect: 'accept' | 'reject';
}

const cases = readFileSync(new URL('testdata/x509-limbo.jsonl', import.meta.url), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as LimboCase);

/** Throws where the CRLs do not say that every certificate below the anchor is good. */
function checkRevocation({ certificates, at }: VerifiedPath, pems: readonly string[]): void {
  const crls = pems.flatMap((pem) => parseCrls(pem));
  for (const [index, certificate] of certificates.entries()) {
    const issuer = certificates[index - 1];
    if (issuer === undefined) continue;
    const status = statusInCrl({ certificate, issuers: [issuer], crls, at });
    if (status.kind === 'unknown') throw status.why;
    assert.equal(status.kind, 'good');
  }
}

function judge(limbo: LimboCase): { verdict: 'accept' | 'reject'; reason: string } {
  const pick = (pems: readonly string[]) => pems.flatMap((pem) => parseCertificates(pem));
  try {
    const [leaf] = parseCertificates(limbo.leaf);
    if (leaf === undefined) throw new Error('no leaf');
    const path = verifyPath({
      leaf,
      intermediates: pick(limbo.inter),
      anchors: pick(limbo.trust),
      at: instant(Date.parse(limbo.time ?? '2026-11-02T00:00:00Z')),
      purpose: limbo.purpose === 'server' ? 'serverAuth' : 'clientAuth',
      ...(limbo.host === null || limbo.host.kind === 'RFC822'
        ? {}
        : { peerName: parseHostName(limbo.host.value) }),
      ...(limbo.maxDepth === null ? {} : { maxIntermediates: limbo.maxDepth }),
    });
    if (limbo.revocation === 'require') checkRevocation(path, limbo.crls);
    return { verdict: 'accept', reason: `path of ${path.certificates.length}` };
  } catch (error) {
    if (!isTrustError(error)) throw error;
    return { verdict: 'reject', reason: `${error.code}: ${error.message}` };
  }
}

for (const limbo of cases) {
  test(`RFC 5280 §6: x509-limbo expects ${limbo.expect} of ${limbo.id}`, (context) => {
    const { verdict, reason } = judge(limbo);
    context.diagnostic(reason);
    // No deviations: should one become necessary, name it here with its reason, and never an acceptance.
    assert.equal(verdict, limbo.expect, reason);
  });
}
