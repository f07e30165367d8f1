import { sha256Hex } from '@virt-trust/base/digest.ts';
import { claimKey } from '../hosts/claim-key.ts';
import type { Host } from '../hosts/host.ts';
import { reportOf } from '../hosts/network-report.ts';
import { CONFLICT_RULES } from './refused-names.ts';

/** What was last seen of a host; small, because all of them are held in memory. */
export interface SeenHost {
  /** What its declaration is made of, but settings and claims of others. */
  readonly facts: string;
  /** What of it may have become possible: work on a host that was just enrolled, or taken back. */
  readonly standing: string;
  readonly names: ReadonlySet<string>;
  /** What it was refused because another host has it. */
  readonly conflicts: ReadonlySet<string>;
  /** The rule of each refused name. */
  readonly refusedBy: readonly string[];
}

/** A digest of what a host's declaration is made of. */
export function factsOf(host: Host): string {
  const { name, cluster, channel, word } = host;
  return sha256Hex(JSON.stringify([name, cluster, channel.address, word, reportOf(host)]));
}

/** A digest of what a host is declared with. */
export function declaredOf({ name, declared }: Host): string {
  return sha256Hex(JSON.stringify([name, declared.interfaces]));
}

/** What is held of a host. */
export function seenOf(host: Host): SeenHost {
  const { names, refused } = host.declared;
  return {
    facts: factsOf(host),
    standing: `${host.observeOnly} ${host.state === 'enrolling'} ${host.revoked?.at ?? ''}`,
    refusedBy: refused.map(({ rule }) => rule),
    names: new Set([...names.dns, ...names.addresses].map(claimKey)),
    conflicts: new Set(
      refused
        .filter(({ rule }) => CONFLICT_RULES.includes(rule))
        // A host name is refused for its first label, too.
        .flatMap(({ name, interface: on }) => [claimKey(name), ...(on === null ? name.split('.', 1) : [])]),
    ),
  };
}
