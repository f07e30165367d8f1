import { domainToASCII } from 'node:url';
import type { Certificate } from '@virt-trust/pki/certificate.ts';
import { OID } from '@virt-trust/pki/der/oid.ts';
import { canonicalIpAddress, isIpAddress } from '@virt-trust/pki/ip-address.ts';

/**
 * Whether a server's certificate names the host, as GnuTLS decides for libvirt and QEMU
 * (gnutls_x509_crt_check_hostname2, lib/x509/hostname-verify.c): an IP address only against iPAddress, a DNS name
 * against dNSName, against the one CN only where there is no alternative name of a host.
 */
export function matchesHostName(certificate: Certificate, host: string): boolean {
  const names = certificate.extensions.subjectAltName?.names ?? [];
  if (isIpAddress(host)) {
    const address = canonicalIpAddress(host);
    return names.some((name) => name.kind === 'ip' && name.value === address);
  }
  const wanted = toLowerAscii(isPrintableAscii(host) ? host : domainToASCII(host) || host);
  const dns = names.flatMap((name) => (name.kind === 'dns' ? [name.value] : []));
  if (dns.some((pattern) => matchesDnsName(pattern, wanted))) return true;
  // RFC 6125 §6.4.4: the CN is the last resort; a name too long to be one precludes it as well.
  const precludes = names.some(
    (name) =>
      ['dns', 'ip', 'uri'].includes(name.kind) || (name.kind === 'email' && name.value.length >= MAX_NAME),
  );
  if (precludes) return false;
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

/** MAX_CN: longer names GnuTLS does not compare. */
const MAX_NAME = 256;

/**
 * _gnutls_hostname_compare: a wildcard at the front stands for any part of one label, none included, and two labels
 * follow it.
 */
function matchesDnsName(pattern: string, wanted: string): boolean {
  if (pattern.length >= MAX_NAME || !isPrintableAscii(pattern)) return false;
  const name = toLowerAscii(pattern);
  if (!name.startsWith('*')) return name === wanted;
  const rest = name.slice(1);
  const last = rest.lastIndexOf('.');
  if (last < 0 || rest.indexOf('.') === last || last === rest.length - 1) return false;
  const label = wanted.slice(0, -rest.length);
  return wanted.endsWith(rest) && !label.includes('.');
}

function isPrintableAscii(text: string): boolean {
  return /^[\x20-\x7e]*$/.test(text);
}

/** ASCII letters alone: locale rules must not make two names one. */
function toLowerAscii(text: string): string {
  return text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}
