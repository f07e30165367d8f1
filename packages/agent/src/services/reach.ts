import { isIP } from 'node:net';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { property } from '@virt-trust/check/host/text.ts';
import type { Proof } from '@virt-trust/contract/model/observed-state.ts';
import { canonicalIpAddress, isIpAddress } from '@virt-trust/pki/ip-address.ts';

/** A place at which a server is looked at from the host itself. */
export interface Reach {
  /** Where to connect. */
  readonly address: string;
  /** Whether clients come there: it is an address of the service's endpoints. */
  readonly isEndpoint: boolean;
}

/** Tells whether the kernel takes an address for the host's own. */
export type IsOwn = (address: string) => boolean;

/**
 * Reads from the kernel's local routing tables which addresses are the host's own: those that the administrator
 * declared in front of NAT are not, nor are those of an interface that went down or away.
 */
export async function readOwnAddresses(run: RunHostCommand): Promise<IsOwn> {
  const read = async (family: string) => {
    const args = [family, '-j', 'route', 'show', 'table', 'local', 'type', 'local'];
    // A family that the kernel lacks has none.
    const { stdout } = await run('ip', args, { acceptedCodes: [1, 2, 255] });
    return parseLocalRoutes(stdout);
  };
  const local = new Set((await Promise.all(['-4', '-6'].map(read))).flat());
  return (address) => isIpAddress(address) && (isLoopback(address) || local.has(canonicalIpAddress(address)));
}

/** RFC 1122 §3.2.1.3 (g), RFC 4291 §2.5.3. */
function isLoopback(address: string): boolean {
  return isIP(address) === 4 ? address.startsWith('127.') : canonicalIpAddress(address) === '::1';
}

/** Reads the addresses in `ip -j route show table local`; networks such as 127.0.0.0/8 are passed over. */
export function parseLocalRoutes(output: string): string[] {
  let routes: unknown;
  try {
    routes = JSON.parse(output);
  } catch {
    return [];
  }
  return (Array.isArray(routes) ? routes : []).flatMap((route) => {
    const address = property(route, 'dst');
    return typeof address === 'string' && isIpAddress(address) ? [canonicalIpAddress(address)] : [];
  });
}

/** The families that a server serves which listens on an address: QEMU makes no socket that is IPv6's alone. */
function familiesOf(listen: string, whenEmpty: readonly number[]): readonly number[] {
  if (listen === '') return whenEmpty;
  if (listen === '0.0.0.0' || listen === '*') return [4];
  return listen === '::' ? [4, 6] : [];
}

/** Where QEMU's VNC server listens that is told no address, and where its SPICE server does [seen with QEMU 7.2]. */
const WHEN_EMPTY = { vnc: [4, 6], spice: [4] } as const;

/**
 * Where a display is looked at, given the endpoint addresses that are the host's own: a wildcard listener on each of its
 * families, or on the loopback where there is none; another where it listens.
 */
export function reachesOf(display: 'vnc' | 'spice', listen: string, own: readonly string[]): Reach[] {
  const families = familiesOf(listen, WHEN_EMPTY[display]);
  if (families.length === 0) return [{ address: listen, isEndpoint: isAmong(listen, own) }];
  const endpoints = own.filter((address) => families.includes(isIP(address)));
  if (endpoints.length > 0) return endpoints.map((address) => ({ address, isEndpoint: true }));
  return [{ address: families.includes(4) ? '127.0.0.1' : '::1', isEndpoint: false }];
}

/** Whether an address is one of a list, however it is written. */
export function isAmong(address: string, list: readonly string[]): boolean {
  return isIpAddress(address) && list.some((one) => canonicalIpAddress(one) === canonicalIpAddress(address));
}

/** `192.0.2.1:16514`, `[2001:db8::1]:16514`. */
export function hostPort(address: string, port: number): string {
  return `${isIP(address) === 6 ? `[${address}]` : address}:${port}`;
}

/** What a proof says of endpoint addresses that are not the host's own; empty where all are. */
export function notSeenFromHere(addresses: readonly string[], isOwn: IsOwn): string {
  const elsewhere = addresses.filter((address) => !isOwn(address));
  if (elsewhere.length === 0) return '';
  return `; not seen from here, not being this host's own: ${elsewhere.join(', ').slice(0, 500)}`;
}

/** The first proof says it for all. */
export function withNote([first, ...others]: readonly Proof[], note: string): Proof[] {
  return first === undefined ? [] : [{ ...first, detail: `${first.detail}${note}` }, ...others];
}

/** The first of each, then the second of each: where there are too many, every display is still looked at. */
export function inTurns<Item>(lists: readonly (readonly Item[])[]): Item[] {
  const longest = Math.max(0, ...lists.map(({ length }) => length));
  return Array.from({ length: longest }, (_, at) => lists.flatMap((list) => list.slice(at, at + 1))).flat();
}
