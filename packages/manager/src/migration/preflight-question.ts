import type { MigrationMode, MigrationOptions } from '@virt-trust/contract/model/migration-options.ts';
import type { HostsContext } from '../hosts/ports.ts';
import type { MigrationAddresses } from './addresses.ts';
import type { MigrationEnd } from './migration-end.ts';

/** What is to be checked before a migration. */
export interface PreflightQuestion {
  /** Null for the pair alone. */
  readonly vm: string | null;
  readonly mode: MigrationMode;
  readonly from: MigrationEnd;
  readonly to: MigrationEnd;
  readonly addresses: Pick<MigrationAddresses, 'libvirtAddress' | 'migrationAddress' | 'tlsDestination'>;
  readonly options: MigrationOptions;
  /** Whether real handshakes are made. */
  readonly handshakes: boolean;
}

/** What a preflight works with. */
export type PreflightContext = Pick<
  HostsContext,
  'channels' | 'certificates' | 'revocations' | 'clock' | 'settingsOf' | 'log'
>;
