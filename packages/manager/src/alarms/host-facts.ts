import type { Instant } from '@virt-trust/base/instant.ts';
import type { InstalledCrl } from '@virt-trust/contract/model/crl.ts';
import type { HostState } from '@virt-trust/contract/model/host.ts';
import type { RefusedName } from '@virt-trust/contract/model/interface.ts';
import type {
  Failure,
  ObservedCredential,
  Rescue,
  ServedEndpoint,
} from '@virt-trust/contract/model/observed-state.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import type { Host } from '../hosts/host.ts';
import type { OutsideLook } from '../hosts/outside-look.ts';
import type { ExpiryThresholds } from './expiry.ts';

/** Whether a host's agent is in reach; unknown until its first dial has ended. */
export type ChannelFact =
  | { readonly kind: 'unknown' }
  | { readonly kind: 'up' }
  | { readonly kind: 'down'; readonly since: Instant; readonly reason: string };

export interface CredentialFact {
  readonly service: Service;
  readonly identity: ObservedCredential['identity'];
  readonly serialNumber: string | null;
  /** Null where it was not made here. */
  readonly issuedAt: Instant | null;
  readonly notAfter: Instant | null;
  readonly failure: Failure | null;
}

/** The part of a host that alarms are made of, as it was last seen; small, because all of them are held in memory. */
export interface StoredFacts {
  readonly name: string;
  readonly cluster: string;
  readonly state: HostState;
  readonly reason: string | null;
  /** Whether it was revoked, and gets no certificates until somebody trusts it again. */
  readonly revoked: boolean;
  readonly observeOnly: boolean;
  readonly credentials: readonly CredentialFact[];
  /** Only what is not as desired. */
  readonly served: readonly ServedEndpoint[];
  readonly crls: readonly InstalledCrl[];
  readonly rescues: readonly Rescue[];
  readonly failure: Failure | null;
  /** What it reports and gets no certificate for. */
  readonly refused: readonly RefusedName[];
}

export interface HostThresholds {
  readonly expiry: ExpiryThresholds;
  /** In milliseconds. */
  readonly unreachableAfter: number;
  readonly driftAfter: number;
}

/** All that is known of a host, for alarms. */
export interface HostFacts extends StoredFacts {
  readonly channel: ChannelFact;
  /** The manager's own last look; null before the first. */
  readonly outside: OutsideLook | null;
  readonly thresholds: HostThresholds;
}

/** What of a host's document matters to alarms. `issuedAt` finds when a certificate was made. */
export async function storedFactsOf(
  host: Host,
  issuedAt: (serialNumber: string) => Promise<Instant | null>,
): Promise<StoredFacts> {
  const { name, cluster, state, reason, observeOnly, observed } = host;
  const credentials = await Promise.all(
    (observed?.credentials ?? []).map(async ({ service, identity, serialNumber, notAfter, failure }) => ({
      service,
      identity,
      serialNumber,
      issuedAt: identity === 'ours' && serialNumber !== null ? await issuedAt(serialNumber) : null,
      notAfter: notAfter as Instant | null,
      failure,
    })),
  );
  return {
    name,
    cluster,
    state,
    reason,
    revoked: host.revoked !== undefined,
    observeOnly,
    credentials,
    served: (observed?.served ?? []).filter((endpoint) => endpoint.state !== 'as-desired'),
    crls: observed?.crls ?? [],
    rescues: observed?.rescues ?? [],
    refused: host.declared.refused,
    failure: observed?.busy === true ? null : (observed?.failure ?? null),
  };
}
