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

function rateOf(seconds: number, once: () => void): number {
  for (const until = performance.now() + 300; performance.now() < until; ) once();
  let count = 0;
  const start = performance.now();
  const end = start + seconds * 1000;
  let now = start;
  for (; now < end; now = performance.now()) {
    for (let inner = 0; inner < 50; inner++) once();
    count += 50;
  }
  return count / ((now - start) / 1000);
}

/** Raw signatures a second, and certificates a second of `pki` alone: profile and public key in, certificate out. */
export async function measureSigning(seconds: number): Promise<{ raw: number; pki: number }> {
  const record = await createInternalAuthority({
    purpose: 'control',
    organization: 'virt-trust',
    constraints: { dns: [], subnets: [] },
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
  const raw = () => rateOf(seconds, () => sign('sha256', bytes, key));
  const pki = () =>
    rateOf(seconds, () => {
      const serialNumber = newSerialNumber(systemRandomness);
      const fields = { serialNumber, commonName: 'host1', names, notBefore, notAfter, publicKey };
      signCertificate(prepareCertificate(template, fields), issuer);
    });
  // Turn and turn about, so that what else the machine does falls on both.
  const rounds = [0, 1, 2].map(() => ({ raw: raw(), pki: pki() }));
  const mean = (of: (round: { raw: number; pki: number }) => number) =>
    rounds.reduce((sum, round) => sum + of(round), 0) / rounds.length;
  return { raw: mean((round) => round.raw), pki: mean((round) => round.pki) };
}
