import { foundation } from './migrations/0001-foundation.ts';
import { certificates } from './migrations/0002-certificates.ts';
import { hosts } from './migrations/0003-hosts.ts';
import { revocation } from './migrations/0004-revocation.ts';
import { renewal } from './migrations/0005-renewal.ts';
import { alarms } from './migrations/0006-alarms.ts';
import { crlRecovery } from './migrations/0007-crl-recovery.ts';
import { interfaces } from './migrations/0008-interfaces.ts';
import { migrationModes } from './migrations/0009-migration-modes.ts';
import type { Migration } from './migrations/migration.ts';

/** Every step of the schema in order; imported statically because the program is one file when deployed. */
export const MIGRATIONS: readonly Migration[] = [
  foundation,
  certificates,
  hosts,
  revocation,
  renewal,
  alarms,
  crlRecovery,
  interfaces,
  migrationModes,
];
