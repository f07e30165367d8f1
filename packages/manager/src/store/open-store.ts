import { join } from 'node:path';
import type { Clock } from '@virt-trust/base/clock.ts';
import { Database } from './database.ts';
import { migrate } from './migration.ts';
import { MIGRATIONS } from './migrations.ts';
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
