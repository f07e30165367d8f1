import { TrustError } from '@virt-trust/base/error.ts';
import { DAY, formatInstant, type Instant } from '@virt-trust/base/instant.ts';
import { isSpkiPin, pinMatches, type SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { peerAddress } from '@virt-trust/channel/peer-address.ts';
import { PinSet, requireSeparateRoles } from '@virt-trust/channel/pins.ts';
import { Grant, type GrantedOperation } from '@virt-trust/contract/model/grant.ts';
import { Pin } from '@virt-trust/contract/model/primitives.ts';
import Type, { type Static } from 'typebox';
import type { AgentKeys } from '../ports/agent-context.ts';
import type { AskedOperation, AskingPeer } from '../ports/grants.ts';

/** A grant as it is kept: bound to the manager that gave it. */
export const HeldGrant = Type.Object(
  {
    grant: Grant,
    manager: Pin,
    /** Whether the migration has begun: from then on its state may be asked for until it is over. */
    begun: Type.Boolean(),
  },
  { additionalProperties: false },
);
export type HeldGrant = Static<typeof HeldGrant>;

/** SECURITY: what all managers together may have a host hold, and each of them. */
const MOST_GRANTS = 256;
const MOST_OF_A_MANAGER = 64;

/** The file of a host's grants. */
export const HeldGrants = Type.Object(
  { grants: Type.Array(HeldGrant, { maxItems: MOST_GRANTS }) },
  { additionalProperties: false },
);

/** SECURITY: no grant is given for longer, whatever a manager says. */
const LONGEST_MS = DAY;
/** SECURITY: the state of a migration that nobody said to be over is no longer told after this. */
const LONGEST_AFTER_MS = DAY;

/** SECURITY: what may be asked of a host at all, by what it is in the migration. */
const OF_ROLE: Readonly<Record<Grant['role'], readonly GrantedOperation[]>> = {
  source: ['preflight', 'status'],
  destination: ['preflight', 'create', 'status', 'rpc', 'stream', 'disks'],
};

/** Whether anything may be asked under a grant now. */
export function isOpen({ grant, begun }: HeldGrant, now: Instant): boolean {
  return now < grant.notAfter || (begun && now < grant.notAfter + LONGEST_AFTER_MS);
}

/** Refuses a grant that must not be given: too long or over, of keys that are no other agent's, of no addresses. */
export function requireSound(grant: Grant, keys: AgentKeys, now: Instant): void {
  const { id, notAfter, peer, role, operations } = grant;
  const refused = (code: string, reason: string, hint?: string) =>
    new TrustError(code, 'invalid', `cannot take grant ${id}: ${reason}`, {
      context: { id },
      ...(hint === undefined ? {} : { hint }),
    });
  if (now >= notAfter) {
    const reason = `it is over since ${formatInstant(notAfter as Instant)}, by this host's clock`;
    throw refused('grant.expired', reason, 'Compare the clocks of manager and host.');
  }
  if (notAfter - now > LONGEST_MS)
    throw refused('grant.too_long', `it would hold for more than ${LONGEST_MS / 3_600_000} hours`);
  const strange = operations.find((one) => !OF_ROLE[role].includes(one));
  if (strange !== undefined) throw refused('grant.not_of_role', `nobody asks ${strange} of the ${role}`);
  for (const address of [...peer.addresses, ...peer.reachedAt])
    if (peerAddress(address) === '') throw refused('grant.no_address', `${address} is no address`);
  const pins = new PinSet('agent', peer.pins);
  // SECURITY: a manager's key never passes as an agent's, and no host is its own peer.
  requireSeparateRoles(keys.managers, pins);
  for (const own of keys.own)
    if (pins.isTrusted(own)) throw refused('grant.own_key', `${own} is a key of this host itself`);
}

/** Refuses one more than a host, or one of its managers, may have; throws `grant.too_many`. */
export function requireRoom(held: ReadonlyMap<string, HeldGrant>, id: string, manager: SpkiPin): void {
  const ofManager = [...held.values()].filter((one) => one.manager === manager).length;
  if (held.size <= MOST_GRANTS && ofManager <= MOST_OF_A_MANAGER) return;
  throw new TrustError(
    'grant.too_many',
    'unavailable',
    `cannot take grant ${id}: this host holds ${held.size - 1} already, ${ofManager - 1} of this manager`,
    { context: { id }, hint: 'Wait until a migration of this host is over, or its grants have expired.' },
  );
}

/** What becomes of a request of a peer. */
export type Judgement =
  | { readonly kind: 'admitted'; readonly grant: Grant }
  | { readonly kind: 'refused'; readonly error: TrustError };

/**
 * Whether a peer may ask. That a grant of that id is another's, or is not there at all, is not to be told apart.
 */
export function judge(
  held: HeldGrant | undefined,
  id: string,
  peer: AskingPeer,
  { granted, goesOn }: AskedOperation,
  now: Instant,
): Judgement {
  const refused = (code: string, reason: string): Judgement => {
    const message = `cannot answer for migration ${id}: ${reason}`;
    return { kind: 'refused', error: new TrustError(code, 'denied', message, { context: { id } }) };
  };
  // SECURITY: constant time, and compared where there is nothing to compare with as well.
  const isTheirs = pinMatches(peer.pin, (held?.grant.peer.pins ?? []).filter(isSpkiPin));
  if (held === undefined || !isTheirs) return refused('grant.none', 'there is no grant for this');
  const { grant, begun } = held;
  if (!comesFrom(grant, peer.address))
    return refused('grant.other_address', `its grant does not hold for ${peer.address}`);
  if (!isOpen(held, now) || (now >= grant.notAfter && !(begun && goesOn)))
    return refused('grant.expired', `its grant is over since ${formatInstant(grant.notAfter as Instant)}`);
  if (!grant.operations.includes(granted))
    return refused('grant.not_granted', `its grant does not hold for ${granted}`);
  return { kind: 'admitted', grant };
}

/** Whether connections under a grant come from an address, as a socket reports it. */
export function comesFrom({ peer }: Grant, remoteAddress: string): boolean {
  const address = peerAddress(remoteAddress);
  return address !== '' && peer.addresses.some((one) => peerAddress(one) === address);
}
