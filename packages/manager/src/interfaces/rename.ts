import { TrustError } from '@virt-trust/base/error.ts';
import type { Host } from '../hosts/host.ts';
import { dnsNameOf, givenDnsName, type Neighbours } from './given-names.ts';

/**
 * A host under another name: its own name in certificates changes with it, the names that it was given besides stay;
 * pure. Throws where the name can't be this host's.
 */
export function renamed(host: Host, name: string, neighbours: Neighbours): Host {
  const holder = neighbours.holderOf(name);
  if (holder !== null) {
    throw new TrustError(
      'host.name_conflict',
      'conflict',
      `cannot rename host ${host.name}: ${name} already belongs to host ${holder}`,
      { context: { name, holder }, hint: 'choose another name, or rename that host first' },
    );
  }
  // A name that is no DNS name, with an underscore say, is the host's here and in no certificate.
  const fresh = dnsNameOf(name) === null ? [] : [givenDnsName(name, host, neighbours)];
  const others = host.word.dns.filter((one) => one !== host.name.toLowerCase());
  return { ...host, name, word: { ...host.word, dns: [...new Set([...fresh, ...others])] } };
}
