import { SERVICES, type Service } from '@virt-trust/contract/model/service.ts';
import { parseTbsCertificate } from '@virt-trust/pki/certificate.ts';
import { OID } from '@virt-trust/pki/der/oid.ts';
import { nameAttribute } from '@virt-trust/pki/name.ts';
import { isSerialNumber } from '@virt-trust/pki/serial-number.ts';
import { claimKey } from '../hosts/claim-key.ts';
import { credentialNames } from '../hosts/desired-state.ts';
import type { Host } from '../hosts/host.ts';
import type { CertificateRecord, CertificateRepository } from '../issuance/certificate-record.ts';

/**
 * The services of a host whose served certificate has other names than it is to have now. What was found on the host, or
 * is not served yet, is none of ours to compare; what was revoked is renewed when somebody asks for it.
 */
export async function outdatedServices(
  host: Host,
  certificates: Pick<CertificateRepository, 'find'>,
): Promise<Service[]> {
  const outdated: Service[] = [];
  for (const { service, identity, serialNumber } of host.observed?.credentials ?? []) {
    if (identity !== 'ours' || serialNumber === null || !isSerialNumber(serialNumber)) continue;
    if (!SERVICES.includes(service)) continue;
    const record = await certificates.find(serialNumber);
    if (record !== null && record.revocation === null && !isAsDesired(host, service, record))
      outdated.push(service);
  }
  return outdated;
}

function isAsDesired(host: Host, service: Service, { tbs }: CertificateRecord): boolean {
  const { subject, extensions } = parseTbsCertificate(tbs);
  const { commonName, names } = credentialNames(host, service);
  const has = new Set(
    (extensions.subjectAltName?.names ?? []).map((name) =>
      name.kind === 'dns' || name.kind === 'ip' ? claimKey(name.value) : '',
    ),
  );
  const shall = new Set([...names.dns, ...names.addresses].map(claimKey));
  return nameAttribute(subject, OID.commonName) === commonName && has.symmetricDifference(shall).size === 0;
}
