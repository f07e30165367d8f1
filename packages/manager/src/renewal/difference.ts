import { formatDuration } from '@virt-trust/base/duration.ts';
import { type Instant, SECOND } from '@virt-trust/base/instant.ts';
import type { KeyAlgorithm } from '@virt-trust/contract/model/service.ts';
import { parseTbsCertificate, type TbsCertificate } from '@virt-trust/pki/certificate.ts';
import { type CertificateTemplate, encodeTbs } from '@virt-trust/pki/certificate-issue.ts';
import { formatGeneralName, type GeneralName, parseHostName } from '@virt-trust/pki/general-name.ts';
import { formatName, namesEqual } from '@virt-trust/pki/name.ts';
import { acceptedKeyAlgorithm } from '@virt-trust/pki/public-key-info.ts';
import type { CertificateRecord } from '../issuance/certificate-record.ts';
import type { DeclaredService } from '../issuance/declared-names.ts';

/** How a certificate of the service would be made now. */
export interface PresentTerms {
  /** Of the purpose's authority and the service's profile. */
  readonly template: CertificateTemplate;
  readonly authority: { readonly name: string; readonly notAfter: Instant };
  readonly declared: DeclaredService;
  readonly keyAlgorithm: KeyAlgorithm;
  /** Milliseconds. */
  readonly lifetime: number;
}

/**
 * What would be different about a certificate if it was made now, in words: everything but its serial number, its key
 * itself and the time. A longer lifetime is no reason to hurry. Pure.
 */
export function differencesOf(record: CertificateRecord, terms: PresentTerms): string[] {
  const { template, authority, declared } = terms;
  const tbs = parseTbsCertificate(record.tbs);
  const differences: string[] = [];
  if (record.authority !== authority.name) differences.push(`its authority is ${authority.name} now`);
  else if (!namesEqual(tbs.issuer, template.issuer.certificate.subject))
    differences.push(
      `it is issued under ${formatName(template.issuer.certificate.subject)} now, not ${formatName(tbs.issuer)}`,
    );
  if (record.profile !== template.profile.name)
    differences.push(`its profile is ${template.profile.name} now, not ${record.profile}`);
  const names = compareNames(tbs, declared, differences);
  const key = acceptedKeyAlgorithm(tbs.publicKey, 'certified key').name;
  // The names of this module's algorithms go on with the digest that they sign with.
  if (!key.startsWith(terms.keyAlgorithm))
    differences.push(`its key is to be ${terms.keyAlgorithm} now, not ${key}`);
  const { notAfter } = record;
  // Certificates count in whole seconds.
  const issuedAt = Math.floor(record.issuedAt / SECOND) * SECOND;
  const possible = Math.min(terms.lifetime, authority.notAfter - issuedAt);
  if (notAfter - issuedAt > possible + 2 * SECOND)
    differences.push(
      `its lifetime is ${formatDuration(possible)} now, not ${formatDuration(notAfter - issuedAt)}`,
    );
  if (differences.length === 0 && !isSame(record, tbs, names, terms))
    differences.push('its profile or authority puts other things into it now');
  return differences;
}

function compareNames(
  { extensions }: TbsCertificate,
  { names }: DeclaredService,
  differences: string[],
): readonly GeneralName[] {
  const has = extensions.subjectAltName?.names ?? [];
  const shall = [...names.dns, ...names.addresses].map(parseHostName);
  const missing = without(shall, has);
  const left = without(has, shall);
  if (missing.length > 0) differences.push(`it is to have the names ${missing.join(', ')} too now`);
  if (left.length > 0) differences.push(`it is to have the names ${left.join(', ')} no longer`);
  return has;
}

function without(names: readonly GeneralName[], others: readonly GeneralName[]): string[] {
  const known = new Set(others.map((name) => formatGeneralName(name).toLowerCase()));
  return names.map(formatGeneralName).filter((name) => !known.has(name.toLowerCase()));
}

/** Encoded anew with its own serial number, key and time: the very bytes, or something else would go into it. */
function isSame(
  record: CertificateRecord,
  tbs: TbsCertificate,
  names: readonly GeneralName[],
  { template, declared }: PresentTerms,
): boolean {
  const encoded = encodeTbs(template, {
    serialNumber: record.serialNumber,
    commonName: declared.commonName,
    names,
    notBefore: tbs.notBefore,
    notAfter: tbs.notAfter,
    publicKey: tbs.publicKey.der,
  });
  return Buffer.compare(encoded, record.tbs) === 0;
}
