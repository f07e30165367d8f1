import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { ChannelConnection } from '@virt-trust/channel/connection.ts';
import { createChannelIdentity } from '@virt-trust/channel/identity.ts';
import { PinSet } from '@virt-trust/channel/pins.ts';
import { ApiClient } from '@virt-trust/contract/client.ts';
import type { Host } from '../src/host.ts';

const MANAGERS = '/var/lib/virt-trust/agent/managers.json';
const CHANNEL_PORT = 16515;
const PATIENCE = 30_000;

/** A manager beside a fleet's own, which asks agents what the test wants. */
export interface SecondManager {
  /** The API of an agent's door for managers. */
  of(host: Host): ApiClient;
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
    await connection.waitUntilUp(AbortSignal.timeout(PATIENCE));
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
  return {
    of(host) {
      const client = clients.get(host);
      if (client === undefined) throw new Error(`no agent of ${host.name}`);
      return client;
    },
    async close() {
      for (const connection of connections) await connection.close();
    },
  };
}
