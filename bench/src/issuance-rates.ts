import { createPrivateKey, randomBytes, sign } from 'node:crypto';
import { systemClock } from '@virt-trust/base/clock.ts';
import { DAY, instant } from '@virt-trust/base/instant.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { createInternalAuthority } from '@virt-trust/manager/authorities/internal-creation.ts';
import { parseCertificate } from '@virt-trust/pki/certificate.ts';
import {
  prepareCertificate,
  prepareIssuer,
  prepareTemplate,
  signCertificate,
} from '@virt-trust/pki/certificate-issue.ts';
import { generatePrivateKey, spkiOfKey } from '@virt-trust/pki/key.ts';
import { LEAF_PROFILES } from '@virt-trust/pki/profiles.ts';
import { newSerialNumber } from '@virt-trust/pki/serial-number.ts';
import { hostNames } from './issuance-requests.ts';

/** Seconds for a batch of calls. */
function timeOf(once: () => void, count: number): number {
  const start = performance.now();
  for (let index = 0; index < count; index++) once();
  return (performance.now() - start) / 1000;
}

/** Short enough to mostly run without being interrupted; the median leaves out the rest. */
const BATCH = 20;

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1] ?? 0;
}

/** Raw signatures a second, and certificates a second of `pki` alone: profile and public key in, certificate out. */
export async function measureSigning(seconds: number): Promise<{ raw: number; pki: number }> {
  const record = await createInternalAuthority({
    purpose: 'control',
    organization: 'virt-trust',
    nameConstraints: undefined,
    now: systemClock.now(),
    skew: DAY,
    randomness: systemRandomness,
    keyAlgorithm: 'ecdsa-p256-sha256',
  });
  const key = createPrivateKey({ key: Buffer.from(record.issuingKey), format: 'der', type: 'pkcs8' });
  const issuer = prepareIssuer({ certificate: parseCertificate(record.issuingCertificate), key });
  const template = prepareTemplate(issuer, LEAF_PROFILES['libvirt-server']);
  const publicKey = spkiOfKey(await generatePrivateKey('ecdsa-p256-sha256'));
  const { dns, addresses } = hostNames(1);
  const names = [
    ...dns.map((value) => ({ kind: 'dns' as const, value })),
    ...addresses.map((value) => ({ kind: 'ip' as const, value })),
  ];
  const notBefore = systemClock.now();
  const notAfter = instant(notBefore + 180 * DAY);
  const bytes = randomBytes(500);
  const raw = () => void sign('sha256', bytes, key);
  const pki = () => {
    const serialNumber = newSerialNumber(systemRandomness);
    const fields = { serialNumber, commonName: 'host1', names, notBefore, notAfter, publicKey };
    signCertificate(prepareCertificate(template, fields), issuer);
  };
  timeOf(raw, 200 * BATCH);
  timeOf(pki, 200 * BATCH);
  const times: { raw: number; pki: number }[] = [];
  // Turn and turn about in milliseconds, so that what else the machine does falls on both.
  for (const end = performance.now() + seconds * 1000; performance.now() < end; ) {
    times.push({ raw: timeOf(raw, BATCH), pki: timeOf(pki, BATCH) });
  }
  return {
    raw: BATCH / median(times.map((time) => time.raw)),
    pki: BATCH / median(times.map((time) => time.pki)),
  };
}
