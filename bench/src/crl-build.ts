import { createPrivateKey, sign } from 'node:crypto';
import { systemClock } from '@virt-trust/base/clock.ts';
import { DAY, instant } from '@virt-trust/base/instant.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { createInternalAuthority } from '@virt-trust/manager/authorities/internal-creation.ts';
import { parseCertificate } from '@virt-trust/pki/certificate.ts';
import { prepareIssuer } from '@virt-trust/pki/certificate-issue.ts';
import { parseCrl } from '@virt-trust/pki/crl.ts';
import type { CrlEntryFields } from '@virt-trust/pki/crl-entry.ts';
import { EncodedCrlEntries, issueCrl } from '@virt-trust/pki/crl-issue.ts';
import { newSerialNumber } from '@virt-trust/pki/serial-number.ts';
import { median } from './figures.ts';

/** What building CRLs of one size costs; times in milliseconds, sizes in octets. */
export interface CrlFigures {
  readonly entries: number;
  readonly octets: number;
  readonly build: number;
  readonly oneMore: number;
  readonly hashAlone: number;
  readonly parse: number;
  readonly lookUp: number;
  /** How much more memory the process held at most while it built, encoded and signed once. */
  readonly memory: number;
}

const ROUNDS = 15;

function timeOf(work: () => void): number {
  const start = performance.now();
  work();
  return performance.now() - start;
}

/** Its own process, since memory is measured: prints the figures for so many entries. */
const entries = Number(process.argv[2] ?? '0');
const now = systemClock.now();
const record = await createInternalAuthority({
  purpose: 'control',
  organization: 'virt-trust',
  nameConstraints: undefined,
  now,
  skew: DAY,
  randomness: systemRandomness,
  keyAlgorithm: 'ecdsa-p256-sha256',
});
const key = createPrivateKey({ key: Buffer.from(record.issuingKey), format: 'der', type: 'pkcs8' });
const issuer = prepareIssuer({ certificate: parseCertificate(record.issuingCertificate), key });
const entry = (): CrlEntryFields => ({
  serialNumber: newSerialNumber(systemRandomness),
  revocationDate: now,
  reason: 'keyCompromise',
});
let number = 0n;
const issue = (list: EncodedCrlEntries) =>
  issueCrl(issuer, { number: ++number, thisUpdate: now, nextUpdate: instant(now + DAY), entries: list });

// Compiled code and the first signature are paid for before.
issue(EncodedCrlEntries.of(Array.from({ length: 2000 }, entry)));
const given = Array.from({ length: entries }, entry);
const { gc } = globalThis as { gc?: () => void };
gc?.();
const before = process.memoryUsage.rss();
let list = new EncodedCrlEntries();
let der: Uint8Array = new Uint8Array(0);
const first = timeOf(() => {
  list = EncodedCrlEntries.of(given);
  der = issue(list);
});
const memory = process.memoryUsage.rss() - before;
const build = [first, ...Array.from({ length: 4 }, () => timeOf(() => issue(EncodedCrlEntries.of(given))))];
const oneMore: number[] = [];
const hashAlone: number[] = [];
for (let round = 0; round < ROUNDS; round++) {
  const added = entry();
  oneMore.push(
    timeOf(() => {
      list.add(added);
      der = issue(list);
    }),
  );
  hashAlone.push(timeOf(() => sign('sha256', list.bytes, key)));
}
const parse = Array.from({ length: 5 }, () => timeOf(() => parseCrl(der)));
const crl = parseCrl(der);
const lookUp = Array.from({ length: 5 }, () =>
  timeOf(() => crl.entries.find(newSerialNumber(systemRandomness), crl.issuer, crl.issuer)),
);
const figures: CrlFigures = {
  entries,
  octets: der.length,
  build: median(build),
  oneMore: median(oneMore),
  hashAlone: median(hashAlone),
  parse: median(parse),
  lookUp: median(lookUp),
  memory,
};
console.log(JSON.stringify(figures));
