import type { UnmanagedHost } from '@virt-trust/contract/model/unmanaged-host.ts';
import type { Host } from '../hosts/host.ts';

/** One end of a migration: with an agent, which may only look, or without one. */
export type MigrationEnd =
  | { readonly kind: 'managed' | 'observed'; readonly name: string; readonly host: Host }
  | { readonly kind: 'unmanaged'; readonly name: string; readonly host: UnmanagedHost };

/** The end that a host with an agent is. */
export function managedEnd(host: Host): MigrationEnd {
  return { kind: host.observeOnly ? 'observed' : 'managed', name: host.name, host };
}

/** The end that a host without one is. */
export function unmanagedEnd(host: UnmanagedHost): MigrationEnd {
  return { kind: 'unmanaged', name: host.name, host };
}
