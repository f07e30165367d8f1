import type { KeyObject } from 'node:crypto';
import { DAY, type Instant, instant, parseInstant } from '@virt-trust/base/instant.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import type { KeyAlgorithmName } from './algorithms.ts';
import { issueRootAuthority, prepareIssuingAuthority } from './authority-issue.ts';
import { type Certificate, parseCertificate } from './certificate.ts';
import {
  type CertificateFields,
  type Issuer,
  prepareCertificate,
  prepareIssuer,
  prepareTemplate,
  signCertificate,
} from './certificate-issue.ts';
import { parseHostName } from './general-name.ts';
import { generatePrivateKey, spkiOfKey } from './key.ts';
import { encodeName } from './name.ts';
import type { NameConstraints } from './name-constraints.ts';
import { LEAF_PROFILES, type LeafProfileName } from './profiles.ts';
import { newSerialNumber } from './serial-number.ts';

/** The time at which the tests' certificates are judged. */
export const NOW: Instant = parseInstant('2026-11-22T04:00:00Z');

/** `days` after the tests' time, or after another. */
export function inDays(days: number, from: Instant = NOW): Instant {
  return instant(from + days * DAY);
}

/** Root and issuing authority of a test. */
export interface TestAuthority {
  readonly root: Certificate;
  readonly rootIssuer: Issuer;
  readonly issuing: Certificate;
  readonly issuer: Issuer;
}

/** Makes root and issuing authority. */
export async function makeAuthority(
  algorithm: KeyAlgorithmName = 'ecdsa-p256-sha256',
  nameConstraints?: NameConstraints,
  at: Instant = NOW,
): Promise<TestAuthority> {
  const fields = (commonName: string, years: number) => ({
    serialNumber: newSerialNumber(systemRandomness),
    subject: encodeName({ organization: 'virt-trust', commonName }),
    notBefore: inDays(-1, at),
    notAfter: inDays(years * 365, at),
    nameConstraints: undefined,
  });
  const rootKey = await generatePrivateKey(algorithm);
  const root = parseCertificate(issueRootAuthority(fields('migration root', 20), rootKey));
  const rootIssuer = prepareIssuer({ certificate: root, key: rootKey });
  const key = await generatePrivateKey(algorithm);
  const issuingFields = { ...fields('migration issuing', 10), nameConstraints };
  const prepared = prepareIssuingAuthority(rootIssuer, issuingFields, spkiOfKey(key));
  const issuing = parseCertificate(signCertificate(prepared, rootIssuer));
  return { root, rootIssuer, issuing, issuer: prepareIssuer({ certificate: issuing, key }) };
}

/** Issues an end certificate for a key, fields overridden as the test wants. */
export function issueLeaf(
  issuer: Issuer,
  profile: LeafProfileName,
  key: KeyObject,
  fields: Partial<CertificateFields> = {},
): Certificate {
  const prepared = prepareCertificate(prepareTemplate(issuer, LEAF_PROFILES[profile]), {
    serialNumber: newSerialNumber(systemRandomness),
    commonName: 'host1.example.com',
    names: [parseHostName('host1.example.com'), parseHostName('10.1.2.3'), parseHostName('fd00::1')],
    notBefore: inDays(-1),
    notAfter: inDays(180),
    publicKey: spkiOfKey(key),
    ...fields,
  });
  return parseCertificate(signCertificate(prepared, issuer));
}
