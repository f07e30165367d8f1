import { connect as connectTcp } from 'node:net';
import type { TestContext } from 'node:test';
import type { Instant } from '@virt-trust/base/instant.ts';
import { ChannelConnection } from '@virt-trust/channel/connection.ts';
import { dialChannel } from '@virt-trust/channel/dial.ts';
import { identityOf } from '@virt-trust/channel/fixtures.ts';
import type { ChannelIdentity } from '@virt-trust/channel/identity.ts';
import { PinSet } from '@virt-trust/channel/pins.ts';
import { putGrant } from '@virt-trust/contract/agent/grant-operations.ts';
import { listEvents } from '@virt-trust/contract/agent/operations.ts';
import { clientOver, enrolledAgent } from '../fixtures.ts';
import { grantFor, grantingEngines, noHostCommands } from '../grants/fixtures.ts';
import { peerClient } from '../peers/peer-client.ts';

/** For tests: a host whose manager grants what the test says, and another host's key that may be stolen. */
export async function grantingHost(t: TestContext, { clock }: { clock?: { now(): Instant } } = {}) {
  const host = await enrolledAgent(t, { mode: 'manage' });
  const asked: string[] = [];
  const agent = await host.start({
    engines: grantingEngines(asked),
    run: noHostCommands,
    peerPort: 0,
    ...(clock === undefined ? {} : { clock }),
  });
  const trustedAgentPins = new PinSet('agent', [host.agentPin]);
  const target = { trustedAgentPins, host: '127.0.0.1' };
  const connection = new ChannelConnection({
    target: { ...target, identity: host.manager, port: agent.channelPort },
  });
  t.after(() => connection.close());
  const manager = clientOver(connection);
  const peer = identityOf('agent');
  return {
    host,
    agent,
    asked,
    manager,
    peer,
    async give(change: Parameters<typeof grantFor>[1] & { readonly pin?: string } = {}) {
      const { pin = peer.pin, ...rest } = change;
      const grant = grantFor(pin, rest);
      const { port } = await manager.call(putGrant, { params: { id: grant.id }, body: grant });
      return { grant, port };
    },
    /** What the peer was given: where this host is, and its key. */
    clientAt(port: number, identity: ChannelIdentity<'agent'> = peer) {
      const reached = {
        name: 'host-a',
        pins: [host.agentPin],
        addresses: ['127.0.0.1'],
        reachedAt: ['127.0.0.1'],
      };
      const client = peerClient({ peer: { ...reached, port } }, () => identity);
      t.after(() => client.close());
      return client;
    },
    async channelTo(port: number, identity: ChannelIdentity = peer) {
      const session = await dialChannel({ ...target, identity, port, timeoutMs: 60_000 });
      t.after(() => session.destroy());
      return session.http2;
    },
    /** As soon as there are so many. */
    async refusedEvents(count: number) {
      for (;;) {
        const { events, last } = await manager.call(listEvents, {});
        const refused = events.filter(({ kind }) => kind === 'grant.refused');
        if (refused.length >= count) return refused;
        await manager.call(listEvents, { query: { after: last, wait: 5 } });
      }
    },
  };
}

/** For tests: whether nobody listens there: a connection is refused by the kernel. */
export function isClosed(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectTcp(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(false);
    });
    socket.on('error', () => resolve(true));
  });
}
