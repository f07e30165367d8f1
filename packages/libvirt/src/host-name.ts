import type { Certificate } from '@virt-trust/pki/certificate.ts';
import { OID } from '@virt-trust/pki/der/oid.ts';
import { canonicalIpAddress, isIpAddress } from '@virt-trust/pki/ip-address.ts';

/**
 * Whether a server's certificate names the host, as GnuTLS decides for libvirt and QEMU
 * (gnutls_x509_crt_check_hostname, RFC 6125 §6.4, RFC 9525 §6.3): an IP address only against iPAddress, a DNS name
 * against dNSName, against the one CN only where there is no alternative name of a host.
 */
export function matchesHostName(certificate: Certificate, host: string): boolean {
  const names = certificate.extensions.subjectAltName?.names ?? [];
  if (isIpAddress(host)) {
    const address = canonicalIpAddress(host);
    return names.some((name) => name.kind === 'ip' && name.value === address);
  }
  const wanted = toLowerAscii(host);
  const dns = names.flatMap((name) => (name.kind === 'dns' ? [name.value] : []));
  if (dns.some((pattern) => matchesDnsName(pattern, wanted))) return true;
  // RFC 6125 §6.4.4: the CN is the last resort.
  if (names.some(({ kind }) => kind === 'dns' || kind === 'ip' || kind === 'uri')) return false;
  const purposes = certificate.extensions.extKeyUsage?.purposes;
  if (
    purposes !== undefined &&
    !purposes.includes(OID.serverAuth) &&
    !purposes.includes(OID.anyExtendedKeyUsage)
  )
    return false;
  const commonNames = certificate.subject.rdns.flat().filter(({ type }) => type === OID.commonName);
  const [only] = commonNames;
  // RFC 6125 §1.8: of several CNs none counts.
  return commonNames.length === 1 && only?.textual === true && matchesDnsName(only.value, wanted);
}

/** RFC 9525 §6.3: a wildcard is the whole leftmost label, stands for one label, and two more follow it. */
function matchesDnsName(pattern: string, wanted: string): boolean {
  const name = toLowerAscii(pattern);
  if (!name.startsWith('*.')) return name === wanted;
  const parent = name.slice(1);
  if (parent.indexOf('.', 1) < 0 || parent.endsWith('.') || parent.includes('*')) return false;
  const label = wanted.slice(0, -parent.length);
  return wanted.endsWith(parent) && label !== '' && !label.includes('.');
}

/** ASCII letters alone: locale rules must not make two names one. */
function toLowerAscii(text: string): string {
  return text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}
