import { TrustError } from '@virt-trust/base/error.ts';
import { HOUR, type Instant } from '@virt-trust/base/instant.ts';
import type { CrlDelivery, InstalledCrl } from '@virt-trust/contract/model/crl.ts';
import { parseCertificates } from '@virt-trust/pki/certificate.ts';
import { type Crl, parseCrl } from '@virt-trust/pki/crl.ts';
import { formatCrlNumber, parseCrlNumber } from '@virt-trust/pki/crl-number.ts';
import { verifyCrl } from '@virt-trust/pki/crl-verify.ts';
import { formatName } from '@virt-trust/pki/name.ts';
import { decodePem, encodePem } from '@virt-trust/pki/pem.ts';
import type { CrlRecord } from './record.ts';

/** More costs every start of a VM, every reload and every handshake dearly. */
const ENTRY_LIMIT = 1000;
const BYTE_LIMIT = 98_304;
/** How far a host's clock may be behind that of whoever signs. */
const CLOCK_SKEW_MS = HOUR;

/** A CRL that may be installed; `same` where it is the one that is. */
export interface VerifiedDelivery {
  readonly kind: 'newer' | 'same';
  readonly pem: string;
  readonly issuerPin: CrlRecord['issuerPin'];
  readonly installed: Omit<InstalledCrl, 'installedAt' | 'failure'>;
}

/**
 * Verifies a CRL for its purpose: of the authority that issues the service's own certificates, signed by it, whole,
 * current, of at most 1,000 entries, and no older than the one that is installed. GnuTLS, which reads it, checks neither
 * signature nor age. Throws `crl.*`, `der.*`, `pem.*`.
 */
export function verifyDelivery(
  { purpose, crl: text }: CrlDelivery,
  bundle: string,
  known: CrlRecord | undefined,
  at: Instant,
): VerifiedDelivery {
  const crl = readOne(text);
  // SECURITY: the bundle's first certificate alone. A CRL of another authority in it, the root's say, would displace this one.
  const [authority] = parseCertificates(bundle);
  const { issuer } = verifyCrl(crl, authority === undefined ? [] : [authority], {
    at,
    clockSkew: CLOCK_SKEW_MS,
  });
  refuseParts(crl);
  if (crl.entries.count > ENTRY_LIMIT)
    throw refused(
      'too_large',
      crl,
      `it has ${crl.entries.count} entries, more than ${ENTRY_LIMIT}, which would slow down each start of a VM`,
    );
  const number = crl.extensions.crlNumber;
  const { nextUpdate } = crl;
  if (number === undefined) throw refused('no_number', crl, 'it has no number');
  if (nextUpdate === undefined) throw refused('no_next_update', crl, 'it does not say until when it holds');
  const pem = encodePem('X509 CRL', crl.der);
  const kind = compare(crl, number, pem, known?.issuerPin === issuer.pin ? known : undefined);
  return {
    kind,
    pem,
    issuerPin: issuer.pin,
    installed: {
      purpose,
      issuer: formatName(crl.issuer).slice(0, 1000),
      number: formatCrlNumber(number),
      thisUpdate: crl.thisUpdate,
      nextUpdate,
      entries: crl.entries.count,
    },
  };
}

/** Reads a text that holds one CRL and nothing else. */
export function readOne(text: string): Crl {
  const blocks = decodePem(text, { maxCharacters: 2 * BYTE_LIMIT });
  const [block] = blocks;
  if (blocks.length !== 1 || block?.label !== 'X509 CRL')
    throw new TrustError('crl.not_one', 'invalid', 'cannot read the CRL: the text is not that of one CRL');
  return parseCrl(block.bytes, { maxBytes: BYTE_LIMIT });
}

function refuseParts(crl: Crl): void {
  const scope = crl.extensions.issuingDistributionPoint;
  if (scope === undefined) return;
  const { onlyContains, onlySomeReasons, indirectCrl } = scope;
  const whole = onlyContains === 'any' || onlyContains === 'user-certificates';
  if (!whole || onlySomeReasons !== undefined || indirectCrl)
    throw refused('scope', crl, 'it does not tell of all end certificates of its issuer');
}

function compare(
  crl: Crl,
  number: bigint,
  pem: string,
  known: CrlRecord | undefined,
): VerifiedDelivery['kind'] {
  if (known === undefined) return 'newer';
  const has = parseCrlNumber(known.installed.number);
  if (number > has) return 'newer';
  if (number < has)
    throw refused(
      'older',
      crl,
      `its number is ${formatCrlNumber(number)}, the host has ${formatCrlNumber(has)}`,
    );
  if (pem === known.pem) return 'same';
  throw refused('number_reused', crl, `the host has another of number ${formatCrlNumber(number)}`);
}

function refused(condition: string, crl: Crl, reason: string): TrustError {
  return new TrustError(
    `crl.${condition}`,
    condition === 'older' || condition === 'number_reused' ? 'conflict' : 'invalid',
    `cannot install the CRL of ${formatName(crl.issuer) || '(empty name)'}: ${reason}`,
  );
}
