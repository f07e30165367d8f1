import { randomUUID } from 'node:crypto';
import { MINUTE } from '@virt-trust/base/instant.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { ChannelConnection } from '@virt-trust/channel/connection.ts';
import { createChannelIdentity } from '@virt-trust/channel/identity.ts';
import { PinSet } from '@virt-trust/channel/pins.ts';
import { deleteGrant, putGrant } from '@virt-trust/contract/agent/grant-operations.ts';
import {
  createMigration,
  getMigration,
  startMigration,
} from '@virt-trust/contract/agent/migration-operations.ts';
import { ApiClient } from '@virt-trust/contract/client.ts';
import { testMigrationOptions } from '@virt-trust/contract/model/fixtures.ts';
import { type Grant, PEER_PORT } from '@virt-trust/contract/model/grant.ts';
import type { MigrationOrder, MigrationStatus } from '@virt-trust/contract/model/migration.ts';
import type { MigrationOptions } from '@virt-trust/contract/model/migration-options.ts';
import { MIGRATE_FLAGS } from '@virt-trust/libvirt/migration-protocol.ts';
import type { Host } from '../src/host.ts';

const MANAGERS = '/var/lib/virt-trust/agent/managers.json';
const CHANNEL_PORT = 16515;
const PATIENCE = 180_000;

interface Wanted {
  readonly vm: string;
  readonly from: Host;
  readonly to: Host;
  readonly options?: Partial<MigrationOptions>;
  readonly grantMs?: number;
}

/** A migration that a second manager drives. */
interface Driven {
  readonly id: string;
  readonly notAfter: number;
  status(): Promise<MigrationStatus>;
  /** Takes the grant of one host back. */
  revoke(host: Host): Promise<void>;
}

const DESTINATION: Grant['operations'] = ['create', 'status', 'rpc', 'stream', 'disks'];
const GRANTED_FLAGS = MIGRATE_FLAGS.live | MIGRATE_FLAGS.nonSharedDisk | MIGRATE_FLAGS.parallel;

/** A manager beside a fleet's own, which asks agents what the test wants. */
export interface SecondManager {
  /** The API of an agent's door for managers. */
  of(host: Host): ApiClient;
  /** Has a VM migrated in mode `pinned`, as a manager does: an order, a grant for each of the two hosts, the start. */
  migrate(wanted: Wanted): Promise<Driven>;
  close(): Promise<void>;
}

/** Has the hosts' agents obey one more key, as their administrator could, and dials them with it. */
export async function secondManager(hosts: ReadonlyMap<Host, readonly string[]>): Promise<SecondManager> {
  const identity = await createChannelIdentity({ role: 'manager', randomness: systemRandomness });
  const clients = new Map<Host, ApiClient>();
  const connections: ChannelConnection[] = [];
  for (const [host, pins] of hosts) {
    const managers = JSON.parse(await host.readFile(MANAGERS));
    managers.pins.push(identity.pin);
    await host.writeFile(MANAGERS, JSON.stringify(managers), 0o600);
    await host.run(['systemctl', 'restart', 'virt-trust-agent']);
    const target = {
      identity,
      trustedAgentPins: new PinSet('agent', pins),
      host: host.address,
      port: CHANNEL_PORT,
    };
    const connection = new ChannelConnection({ target, backOff: { firstMs: 100, maxMs: 500 } });
    connections.push(connection);
    try {
      await connection.waitUntilUp(AbortSignal.timeout(PATIENCE));
    } catch (error) {
      // They would dial for ever, and the test's process with them.
      await Promise.all(connections.map((one) => one.close()));
      throw error;
    }
    clients.set(
      host,
      new ApiClient(async ({ method, path, headers, body }) => {
        const request = { method, path, headers, ...(body === undefined ? {} : { body }) };
        const answer = await connection.request(request);
        const contentType = String(answer.headers['content-type'] ?? '');
        return { status: answer.status, contentType, body: answer.body.toString('utf8') };
      }, host.name),
    );
  }
  const of = (host: Host) => {
    const client = clients.get(host);
    if (client === undefined) throw new Error(`no agent of ${host.name}`);
    return client;
  };
  const peerOf = (host: Host): Grant['peer'] => ({
    name: host.name,
    pins: [...(hosts.get(host) ?? [])],
    addresses: [host.address],
    reachedAt: [host.address],
    port: PEER_PORT,
  });
  return {
    of,
    async migrate({ vm, from, to, options = {}, grantMs = 10 * MINUTE }) {
      const id = randomUUID();
      const order: MigrationOrder = {
        id,
        vm,
        mode: 'pinned',
        from: from.name,
        to: to.name,
        source: { kind: 'local' },
        destination: { kind: 'peer' },
        peerAgent: true,
        stream: null,
        tls: null,
        options: testMigrationOptions(options),
        doubtSeconds: 60,
      };
      const prepared = await of(from).call(createMigration, { body: order });
      const notAfter = Date.now() + grantMs;
      const grant = {
        id,
        mode: 'pinned' as const,
        vm: { name: vm, ...prepared.vm },
        flags: GRANTED_FLAGS,
        streams: 1 + order.options.parallel,
        notAfter,
      };
      const roles = [
        [to, { ...grant, role: 'destination', operations: DESTINATION, peer: peerOf(from) }],
        [from, { ...grant, role: 'source', operations: ['status'], peer: peerOf(to) }],
      ] satisfies [Host, Grant][];
      for (const [host, body] of roles) await of(host).call(putGrant, { params: { id }, body });
      await of(from).call(startMigration, { params: { id }, body: { certificate: null } });
      return {
        id,
        notAfter,
        status: () => of(from).call(getMigration, { params: { id }, query: { wait: 5 } }),
        revoke: async (host) => {
          await of(host).call(deleteGrant, { params: { id } });
        },
      };
    },
    async close() {
      for (const connection of connections) await connection.close();
    },
  };
}
