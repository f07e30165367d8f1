import type { MigrationOrder } from '@virt-trust/contract/model/migration.ts';
import type { RemoteDomain } from '@virt-trust/libvirt/migration-protocol.ts';
import type { MigratableVm } from './domain.ts';
import type { Journal } from './outcome.ts';
import type { StreamUris } from './parameters.ts';
import type { RpcClient } from './rpc-client.ts';
import type { MigrationWatch } from './watch.ts';

/** The destination's agent, where there is one. */
export interface PeerDoor {
  /** Tells it that the migration begins. */
  begin(vm: MigratableVm): Promise<void>;
  vmState(): Promise<{ readonly state: string | null; readonly reason: string }>;
}

export interface ConductionParts {
  readonly order: MigrationOrder;
  readonly openSource: () => Promise<RpcClient>;
  readonly openDestination: () => Promise<RpcClient>;
  readonly peer: PeerDoor | null;
  /** The streams, once the peer knows of the migration. */
  readonly streams: () => Promise<StreamUris>;
  /** Makes durable how far it is, before it goes on. */
  readonly journal: (journal: Journal) => Promise<void>;
  readonly isCancelled: () => boolean;
  readonly watch: (source: RpcClient, domain: RemoteDomain) => MigrationWatch;
  /** What broke a stream, where it went through agents. */
  readonly streamTrouble: () => string | null;
  readonly now: () => number;
  readonly sleep: (milliseconds: number) => Promise<void>;
}
