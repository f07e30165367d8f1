import type { GeneralName, HostName } from './general-name.ts';
import { canonicalIpAddress } from './ip-address.ts';

function dnsMatches(presented: string, reference: string): boolean {
  const pattern = presented.toLowerCase();
  if (!pattern.startsWith('*.')) return pattern === reference;
  // RFC 9525 §6.3: the wildcard is the whole leftmost label, and stands for exactly one.
  const parent = pattern.slice(1);
  if (parent.includes('*') || parent.indexOf('.', 1) < 0) return false;
  const dot = reference.indexOf('.');
  return dot > 0 && reference.slice(dot) === parent;
}

/** The alternative name that stands for the host, or undefined; the common name is never looked at (RFC 9525 §6). */
export function findHostName(names: readonly GeneralName[], host: HostName): GeneralName | undefined {
  if (host.kind === 'ip') {
    const address = canonicalIpAddress(host.value);
    return names.find((name) => name.kind === 'ip' && name.value === address);
  }
  const reference = host.value.toLowerCase().replace(/\.$/, '');
  return names.find((name) => name.kind === 'dns' && dnsMatches(name.value, reference));
}
