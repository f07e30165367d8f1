import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import { Database } from './database.ts';
import { migrate } from './migration.ts';
import { MIGRATIONS } from './migrations.ts';
import { RESTORING } from './restore.ts';
import { openStateDirectory } from './state-directory.ts';

/** The store of a state directory, open for this process alone. */
export interface OpenStore {
  readonly database: Database;
  close(): void;
}

/** Opens the state directory, takes its lock and brings the schema up to date. */
export function openStore(stateDirectory: string, clock: Clock): OpenStore {
  const directory = openStateDirectory(stateDirectory);
  let database: Database | undefined;
  try {
    refuseHalfRestored(stateDirectory);
    database = new Database(join(stateDirectory, 'manager.db'));
    migrate(database, MIGRATIONS, clock);
  } catch (error) {
    database?.close();
    directory.release();
    throw error;
  }
  const open = database;
  return {
    database: open,
    close: () => {
      open.close();
      directory.release();
    },
  };
}

/** A restore that was killed before its end: an empty store made now would be in its way. */
function refuseHalfRestored(stateDirectory: string): void {
  const path = join(stateDirectory, 'manager.db');
  if (existsSync(path) || !existsSync(join(stateDirectory, RESTORING))) return;
  throw new TrustError(
    'store.half_restored',
    'conflict',
    `cannot open ${stateDirectory}: a restore into it was cut off`,
    {
      hint: 'run virt-trust restore again, with the same words',
    },
  );
}
