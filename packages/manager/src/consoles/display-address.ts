import { isIPv4 } from 'node:net';
import { TrustError } from '@virt-trust/base/error.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import { interfacesOf } from '../hosts/desired-state.ts';
import type { Host } from '../hosts/host.ts';
import { wordOf } from '../interfaces/roles.ts';
import { isLoopback, type TlsDisplay, wildcardOf } from './choose-display.ts';

/**
 * The name or address under which a display is reached and its certificate is verified: the display interface's own
 * FQDN where an administrator gave it one, or else its first address. `served` are the names of the certificate, null
 * where it is not ours. Throws `console.no_address`.
 */
export function displayAddress(
  host: Pick<Host, 'name' | 'declared' | 'word'>,
  display: Pick<TlsDisplay, 'type' | 'listen'>,
  served: SubjectAltNames | null,
): string {
  const wildcard = wildcardOf(display.listen);
  const everywhere = wildcard !== undefined || isLoopback(display.listen);
  const listensOn = (address: string) =>
    everywhere ? wildcard !== 'ipv4' || isIPv4(address) : address === display.listen;
  const has = (name: string) =>
    served === null || served.dns.includes(name) || served.addresses.includes(name);
  const interfaces = interfacesOf(host.declared, 'display').map(({ name, names }) => ({
    own: (wordOf(host.word, name)?.dns ?? []).filter((one) => names.dns.includes(one)),
    addresses: names.addresses.filter(listensOn),
  }));
  const reached = interfaces.filter(({ addresses }) => addresses.length > 0);
  // An FQDN whose addresses are not known here is the administrator's word.
  const named = everywhere ? interfaces : reached;
  const chosen =
    named.flatMap(({ own }) => own).find(has) ?? reached.flatMap(({ addresses }) => addresses).find(has);
  if (chosen !== undefined) return chosen;
  const where = everywhere ? '' : `, which listens on ${display.listen}`;
  throw new TrustError(
    'console.no_address',
    'conflict',
    `cannot open a console on host ${host.name}: the certificate of ${display.type} has no name or address of the display${where}`,
    {
      hint: `see its interfaces (virt-trust interface list ${host.name}), give the right one the role display or that address (virt-trust interface set), then provision the host`,
    },
  );
}
