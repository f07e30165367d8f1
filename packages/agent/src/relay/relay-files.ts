import { readdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Grant } from '@virt-trust/contract/model/grant.ts';
import { Count, Port, Text } from '@virt-trust/contract/model/primitives.ts';
import Type, { type Static } from 'typebox';
import { Document } from '../state/document.ts';
import type { AgentPaths } from '../state/paths.ts';

const strict = { additionalProperties: false };
const WAY_OUT = 'Remove it; a migration whose relay is lost begins anew.';
const ORDER = 'relay.json';
const STATUS = 'relay-status.json';

/** What a relay's process is to do. It holds no key: the process reads the host's own. */
const RelayOrder = Type.Object({ grant: Grant }, strict);

/** What it says of itself. */
const RelayStatus = Type.Object(
  {
    port: Type.Union([Port, Type.Null()]),
    /** Connections that are open, and QEMU's that there ever were. */
    open: Count,
    carried: Count,
    /** Why everything was cut; null where nothing was. */
    cutOff: Type.Union([Text, Type.Null()]),
    /** Why it could not begin. */
    failure: Type.Union([Text, Type.Null()]),
    ended: Type.Boolean(),
  },
  strict,
);
export type RelayStatus = Static<typeof RelayStatus>;

/** A relay's files below `/run/virt-trust/migrations/ID`, where root alone reads. */
export class RelayFiles {
  readonly directory: string;
  readonly order: Document<typeof RelayOrder>;
  readonly status: Document<typeof RelayStatus>;

  constructor(paths: AgentPaths, id: string) {
    this.directory = join(paths.migrations, id);
    this.order = new Document(join(this.directory, ORDER), RelayOrder, WAY_OUT);
    this.status = new Document(join(this.directory, STATUS), RelayStatus, WAY_OUT);
  }

  async remove(): Promise<void> {
    await rm(this.order.path, { force: true });
    await rm(this.status.path, { force: true });
    // What else is there is not the relay's.
    await rmdir(this.directory).catch(() => {});
  }
}

/** The ids of migrations that have a relay's order. */
export async function relayIds(paths: AgentPaths): Promise<string[]> {
  const names = await readdir(paths.migrations).catch((): string[] => []);
  const found = await Promise.all(
    names.filter(isId).map(async (id) => {
      const entries = await readdir(join(paths.migrations, id)).catch((): string[] => []);
      return entries.includes(ORDER) ? [id] : [];
    }),
  );
  return found.flat();
}

/** Whether it is an id and no path. */
export function isId(text: string): boolean {
  return /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text);
}
