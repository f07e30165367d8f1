import type { HostNetwork, Interface } from '@virt-trust/contract/model/inventory.ts';

const MAX_ADDRESSES = 8;
const MAX_PHRASES = 24;

/** The addresses that clients may be told of. */
export function usableAddresses(one: Interface | undefined): string[] {
  if (one === undefined || one.leftOut !== null) return [];
  return one.addresses.flatMap(({ address, leftOut }) => (leftOut === null ? [address] : []));
}

/**
 * What came and went between two reports, in words; empty where it makes no difference to clients. Guests that start,
 * temporary addresses, lifetimes, and cards without an address make none.
 */
export function describeDifference(before: HostNetwork | null, after: HostNetwork): string {
  const phrases: string[] = [];
  if (before === null) phrases.push(`the host is named ${after.hostName}`);
  else if (before.hostName !== after.hostName)
    phrases.push(`the host is named ${after.hostName}, no more ${before.hostName}`);
  const former = new Map((before?.interfaces ?? []).map((one) => [one.name, one]));
  const present = new Map(after.interfaces.map((one) => [one.name, one]));
  for (const name of new Set([...present.keys(), ...former.keys()]))
    phrases.push(...changesOf(name, former.get(name), present.get(name)));
  const more = phrases.length - MAX_PHRASES;
  return [...phrases.slice(0, MAX_PHRASES), ...(more > 0 ? [`and ${more} more changes`] : [])].join('; ');
}

function changesOf(name: string, before: Interface | undefined, after: Interface | undefined): string[] {
  const had = new Set(usableAddresses(before));
  const has = new Set(usableAddresses(after));
  if (had.size + has.size === 0) return [];
  const phrases: string[] = [];
  const came = has.difference(had);
  const went = had.difference(has);
  if (came.size > 0) phrases.push(`${name} has ${listOf(came)}`);
  if (went.size > 0) phrases.push(`${name} has no more ${listOf(went)}`);
  const wasUp = before === undefined || had.size === 0 || before.up;
  if (after !== undefined && has.size > 0 && after.up !== wasUp)
    phrases.push(`${name} is ${after.up ? 'up' : 'down'}`);
  return phrases;
}

function listOf(addresses: ReadonlySet<string>): string {
  const more = addresses.size - MAX_ADDRESSES;
  return [...[...addresses].slice(0, MAX_ADDRESSES), ...(more > 0 ? [`and ${more} more`] : [])].join(', ');
}
