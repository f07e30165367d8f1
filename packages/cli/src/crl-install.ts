import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { formatInstant, type Instant, MINUTE } from '@virt-trust/base/instant.ts';
import type { Certificate } from '@virt-trust/pki/certificate.ts';
import { type Crl, encodeCrlsPem, parseCrl, parseCrls } from '@virt-trust/pki/crl.ts';
import { formatCrlNumber } from '@virt-trust/pki/crl-number.ts';
import { verifyCrl } from '@virt-trust/pki/crl-verify.ts';
import { formatName, namesEqual } from '@virt-trust/pki/name.ts';

/** Clocks of workstations are not those of servers. */
const SKEW = 5 * MINUTE;

/** What is to become of a file of CRLs. */
export interface CrlPlan {
  readonly crl: Crl;
  /** The file's text; null where it holds the very CRL already. */
  readonly text: string | null;
  /** CRLs of other issuers that stay. */
  readonly others: number;
}

/**
 * Decides what a file of CRLs is to hold once a new one is in it: signature, number and age are verified, which GnuTLS
 * does not do, an older one is refused, and other issuers' stay. Throws `crl.*`.
 */
export function planCrlFile(input: {
  /** PEM or DER. */
  readonly fetched: Uint8Array;
  readonly authorities: readonly Certificate[];
  /** The file as it is; null where there is none. */
  readonly present: string | null;
  readonly path: string;
  readonly now: Instant;
}): CrlPlan {
  const { authorities, now } = input;
  const crl = readOne(input.fetched);
  verifyCrl(crl, authorities, { at: now, clockSkew: SKEW });
  const all = input.present === null ? [] : readPresent(input.present, input.path);
  const same = all.filter(({ issuer }) => namesEqual(issuer, crl.issuer));
  const others = all.filter((one) => !same.includes(one));
  for (const before of same) {
    // SECURITY: what the authority did not sign says nothing about which is older; a stale one of its own does.
    if (!isSigned(before, authorities)) continue;
    if (Buffer.compare(before.der, crl.der) === 0 && same.length === 1)
      return { crl, text: null, others: others.length };
    refuseOlder(before, crl, input.path);
  }
  return { crl, text: encodeCrlsPem([...others, crl]), others: others.length };
}

function readOne(bytes: Uint8Array): Crl {
  if (bytes[0] === 0x30) return parseCrl(bytes);
  const crls = parseCrls(Buffer.from(bytes).toString('utf8'));
  const [crl] = crls;
  if (crl !== undefined && crls.length === 1) return crl;
  throw new TrustError(
    'crl.several',
    'invalid',
    `cannot install ${crls.length} CRLs at once: give them one after the other`,
  );
}

function readPresent(text: string, path: string): Crl[] {
  if (text.trim() === '') return [];
  try {
    return parseCrls(text);
  } catch (cause) {
    throw new TrustError(
      'crl.file_unreadable',
      'invalid',
      `cannot keep the CRLs of other issuers in ${path}: it cannot be read`,
      { cause, hint: `move it away and run this again: mv ${path} ${path}.old` },
    );
  }
}

function isSigned(crl: Crl, authorities: readonly Certificate[]): boolean {
  try {
    verifyCrl(crl, authorities, { at: crl.thisUpdate, maxAge: Number.MAX_SAFE_INTEGER });
    return true;
  } catch (error) {
    if (isTrustError(error)) return false;
    throw error;
  }
}

function refuseOlder(before: Crl, crl: Crl, path: string): void {
  const [theirs, ours] = [before.extensions.crlNumber, crl.extensions.crlNumber];
  const isOlder =
    theirs !== undefined && ours !== undefined ? ours < theirs : crl.thisUpdate < before.thisUpdate;
  if (!isOlder && (ours === undefined || ours !== theirs)) return;
  const which = (one: Crl) =>
    one.extensions.crlNumber === undefined
      ? `of ${formatInstant(one.thisUpdate)}`
      : `number ${formatCrlNumber(one.extensions.crlNumber)}`;
  throw new TrustError(
    'crl.older',
    'conflict',
    `cannot install the CRL of ${formatName(crl.issuer)}, ${which(crl)}: ${path} holds ${which(before)}${isOlder ? '' : ', which is another one with the same number'}`,
    { hint: 'somebody may be serving an old one: compare with virt-trust crl list' },
  );
}
