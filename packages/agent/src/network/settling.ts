import { SECOND } from '@virt-trust/base/instant.ts';
import type { HostNetwork, Interface } from '@virt-trust/contract/model/inventory.ts';
import { TENTATIVE } from '../inventory/left-out.ts';
import { CALM, type Damping, damp, holdMs } from './damping.ts';
import { describeDifference, usableAddresses } from './difference.ts';

/** An address that is gone for less was not: a lease was taken anew, a link was set up again. */
const LOSS_MS = 3 * SECOND;
/** What an interface had before it was down, or before a boot, has this long to come back: DHCP, router advertisements. */
const ARRIVAL_MS = 30 * SECOND;
const MAX_INTERFACES = 512;
const MAX_ADDRESSES = 64;

/** What is remembered between readings. Times are of a clock that nobody sets. */
export interface Settling {
  /** What is told; null before the first reading. */
  readonly report: HostNetwork | null;
  readonly memories: ReadonlyMap<string, Memory>;
}

interface Memory {
  /** As it was at the last reading, whatever is told. */
  readonly up: boolean;
  readonly addresses: readonly string[];
  readonly damping: Damping;
  /** When it came, or came up. */
  readonly cameAt: number;
  /** Addresses that are told and not there, with the time at which they are given up. */
  readonly missing: ReadonlyMap<string, number>;
}

export interface Settled {
  readonly state: Settling;
  /** What came and went for clients; empty where nothing did. */
  readonly difference: string;
  /** Interfaces that are told of as they were from now on, and for how long at least. */
  readonly held: readonly { readonly name: string; readonly ms: number }[];
  /** When a reading is needed though nothing should change; null for never. */
  readonly againMs: number | null;
}

/**
 * What is told after a reading. What is gained is told at once. What is lost is told when it stayed lost for a while,
 * never while its interface is down, and never where another interface has it now. An interface that loses something
 * over and over is told of as it was, until it was quiet; the others go their own way.
 */
export function settle(state: Settling, reading: HostNetwork, now: number): Settled {
  const before = new Map((state.report?.interfaces ?? []).map((one) => [one.name, one]));
  const present = new Map(reading.interfaces.map((one) => [one.name, one]));
  const anywhere = new Set(reading.interfaces.flatMap(usableAddresses));
  const memories = new Map<string, Memory>();
  const interfaces: Interface[] = [];
  const due: number[] = [];
  const newlyHeld: { name: string; ms: number }[] = [];
  for (const name of new Set([...present.keys(), ...before.keys(), ...state.memories.keys()])) {
    const told = before.get(name);
    const seen = present.get(name);
    const memory = remember(state.memories.get(name), { told, seen, anywhere, now });
    if (isWorthKeeping(memory)) memories.set(name, memory);
    const { held } = memory.damping;
    const ms = holdMs(memory.damping);
    if (held && state.memories.get(name)?.damping.held !== true) newlyHeld.push({ name, ms });
    if (held) due.push(ms);
    else due.push(...[...memory.missing.values()].map((at) => at - now));
    const next = held ? told : merged(told, seen, memory.missing);
    if (next !== undefined) interfaces.push(next);
  }
  const report = { hostName: reading.hostName, interfaces: interfaces.slice(0, MAX_INTERFACES) };
  const pending = due.filter(Number.isFinite);
  return {
    state: { report, memories },
    difference: describeDifference(state.report, report),
    held: newlyHeld,
    againMs: pending.length === 0 ? null : Math.max(1, Math.min(...pending)),
  };
}

function remember(
  memory: Memory | undefined,
  {
    told,
    seen,
    anywhere,
    now,
  }: {
    readonly told: Interface | undefined;
    readonly seen: Interface | undefined;
    readonly anywhere: ReadonlySet<string>;
    readonly now: number;
  },
): Memory {
  const up = seen?.leftOut === null && seen.up;
  const addresses = usableAddresses(seen);
  const lost =
    memory !== undefined &&
    memory.addresses.length > 0 &&
    ((memory.up && !up) || memory.addresses.some((address) => !addresses.includes(address)));
  const cameAt = memory !== undefined && (memory.up || !up) ? memory.cameAt : now;
  const wait = (address: string): number => {
    // Down it has nothing to lose.
    if (seen?.leftOut === null && !up) return Number.POSITIVE_INFINITY;
    const known = memory?.missing.get(address);
    if (known !== undefined && Number.isFinite(known)) return known;
    const comes = seen?.addresses.some((one) => one.address === address && one.leftOut === TENTATIVE);
    const justWentAway =
      memory?.addresses.includes(address) === true && (memory.up || seen?.leftOut !== null);
    return justWentAway && comes !== true ? now + LOSS_MS : Math.max(now + LOSS_MS, cameAt + ARRIVAL_MS);
  };
  const missing = new Map(
    usableAddresses(told)
      .filter((address) => !anywhere.has(address))
      .map((address) => [address, wait(address)] as const)
      .filter(([, at]) => at > now),
  );
  return { up, addresses, damping: damp(memory?.damping ?? CALM, lost, now), cameAt, missing };
}

/** What is seen, with what is told though it is missing. */
function merged(
  told: Interface | undefined,
  seen: Interface | undefined,
  missing: ReadonlyMap<string, number>,
): Interface | undefined {
  if (told === undefined || missing.size === 0) return seen;
  const kept = told.addresses.filter(({ address }) => missing.has(address));
  if (seen?.leftOut !== null) return { ...told, up: false, addresses: kept };
  const others = seen.addresses.filter(({ address }) => !missing.has(address));
  return { ...seen, addresses: [...others, ...kept].slice(0, MAX_ADDRESSES) };
}

function isWorthKeeping({ up, addresses, damping, missing }: Memory): boolean {
  return up || addresses.length > 0 || missing.size > 0 || damping.merit > 0.1;
}
