import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import { test } from 'node:test';
import { ChannelConnection } from '@virt-trust/channel/connection.ts';
import { dialChannel } from '@virt-trust/channel/dial.ts';
import { exchange } from '@virt-trust/channel/exchange.ts';
import { identityOf, madeUpPin } from '@virt-trust/channel/fixtures.ts';
import { PinSet } from '@virt-trust/channel/pins.ts';
import { putGrant } from '@virt-trust/contract/agent/grant-operations.ts';
import { cancelMigration, getMigration } from '@virt-trust/contract/agent/migration-operations.ts';
import {
  AGENT_OPERATIONS,
  getStatus,
  putCrls,
  putDesiredState,
} from '@virt-trust/contract/agent/operations.ts';
import { requestPath } from '@virt-trust/contract/client.ts';
import { testDesiredSettings } from '@virt-trust/contract/model/fixtures.ts';
import { clientOver, enrolledAgent, noEngines } from '../fixtures.ts';
import { grantFor, grantingEngines, noHostCommands } from '../grants/fixtures.ts';
import { operationsOf } from './door.ts';
import { localAgentClient } from './local-client.ts';

const JSON_HEADERS = { 'content-type': 'application/json' };
const ID = '00000000-0000-4000-8000-000000000000';
const OTHER_ID = '00000000-0000-4000-8000-000000000001';

/** Sends over the Unix socket whatever the test wants. */
function sendLocal(
  socketPath: string,
  method: string,
  path: string,
  body?: string,
  type = 'application/json',
): Promise<{ status: number; type: string; body: string }> {
  return new Promise((resolve, reject) => {
    const length = Buffer.byteLength(body ?? '');
    const headers = body === undefined ? {} : { 'content-type': type, 'content-length': length };
    const request = httpRequest({ socketPath, method, path, headers }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part) => {
        text += part;
      });
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          type: response.headers['content-type'] ?? '',
          body: text,
        }),
      );
    });
    request.on('error', reject);
    request.end(body);
  });
}

test('no two operations share an id, or a method and path', () => {
  assert.equal(new Set(AGENT_OPERATIONS.map(({ id }) => id)).size, AGENT_OPERATIONS.length);
  assert.equal(
    new Set(AGENT_OPERATIONS.map(({ method, path }) => `${method} ${path}`)).size,
    AGENT_OPERATIONS.length,
  );
});

test('each door serves exactly the operations that name it', async (t) => {
  const host = await enrolledAgent(t, { mode: 'manage' });
  const agent = await host.start({ engines: grantingEngines(), run: noHostCommands, peerPort: 0 });
  const connection = new ChannelConnection({
    target: {
      identity: host.manager,
      trustedAgentPins: new PinSet('agent', [host.agentPin]),
      host: '127.0.0.1',
      port: agent.channelPort,
    },
  });
  t.after(() => connection.close());
  const peer = identityOf('agent');
  const body = grantFor(peer.pin, { id: ID });
  const { port } = await clientOver(connection).call(putGrant, { params: { id: ID }, body });
  const trustedAgentPins = new PinSet('agent', [host.agentPin]);
  const target = { identity: peer, trustedAgentPins, host: '127.0.0.1', port, timeoutMs: 60_000 };
  const channel = await dialChannel(target);
  t.after(() => channel.destroy());
  const exists = {
    peer: async (method: string, path: string, body: string | undefined) => {
      const request = { method, path, ...(body === undefined ? {} : { body, headers: JSON_HEADERS }) };
      const answer = await exchange(channel.http2, request, 65_536);
      return !answer.body.toString().includes('api.no_such_operation');
    },
    channel: async (method: string, path: string, body: string | undefined) => {
      const answer = await connection.request({
        method,
        path,
        ...(body === undefined ? {} : { body, headers: JSON_HEADERS }),
      });
      return !answer.body.toString().includes('api.no_such_operation');
    },
    local: async (method: string, path: string, body: string | undefined) => {
      const answer = await sendLocal(host.paths.socket, method, path, body);
      return !answer.body.includes('api.no_such_operation');
    },
  };
  for (const operation of AGENT_OPERATIONS) {
    // It ends the agent's work; the test of removal looks at it.
    if (operation.id === 'postRemoval') continue;
    // Not the grant under which the peer is connected, but where it may use it.
    const id = operation.granted === undefined ? OTHER_ID : ID;
    const path = requestPath(operation, { id }, {});
    const body = operation.body === undefined ? undefined : '{}';
    for (const door of ['channel', 'local', 'peer'] as const) {
      const expected = (operation.doors as readonly string[] | undefined)?.includes(door) ?? false;
      assert.equal(await exists[door](operation.method, path, body), expected, `${operation.id} at ${door}`);
    }
  }
  for (const door of ['channel', 'local', 'peer'] as const) {
    assert.equal(await exists[door]('GET', '/v1/nothing', undefined), false);
    assert.equal(await exists[door]('GET', '/', undefined), false);
  }
});

test('the peer door holds what agents ask each other in a migration, each under a grant for it, and nothing else', () => {
  assert.deepEqual(
    operationsOf('peer').map(({ id, doors, granted, goesOn }) => ({ id, doors, granted, goesOn })),
    [
      { id: 'peerCreateMigration', doors: ['peer'], granted: 'create', goesOn: undefined },
      { id: 'peerGetVmState', doors: ['peer'], granted: 'status', goesOn: true },
      { id: 'peerEndMigration', doors: ['peer'], granted: 'create', goesOn: true },
      { id: 'peerServeHandshake', doors: ['peer'], granted: 'preflight', goesOn: undefined },
    ],
  );
  for (const { path, params } of operationsOf('peer')) {
    assert.match(path, /^\/v1\/peer\/\w+\/\{id\}/);
    assert.ok('id' in ((params as { properties?: object } | undefined)?.properties ?? {}));
  }
});

test('the local door holds no operation that changes whom the agent obeys or what it serves', () => {
  assert.deepEqual(
    operationsOf('local')
      .map(({ id }) => id)
      .sort(),
    [
      'getCrls',
      'getIdentity',
      'getInventory',
      'getMigration',
      'getObservedState',
      'getStatus',
      'getVmDisplays',
      'listEvents',
      'listGrants',
      'postRemoval',
    ],
  );
});

test('RFC 9457: what is wrong with a request is said in a problem document', async (t) => {
  const host = await enrolledAgent(t);
  await host.start();
  const send = (method: string, path: string, body?: string, type?: string) =>
    sendLocal(host.paths.socket, method, path, body, type);
  const cases: [Promise<{ status: number; type: string; body: string }>, number, string][] = [
    [send('GET', '/v1/events?after=-1'), 400, 'contract.invalid'],
    [send('GET', '/v1/events?after=1&after=2'), 400, 'contract.invalid'],
    [send('GET', '/v1/events?limit=1001'), 400, 'contract.invalid'],
    [send('GET', '/v1/events?surprise=1'), 400, 'contract.invalid'],
    [send('GET', '/v1/migrations/..%2f..%2fetc'), 400, 'contract.invalid'],
    [send('POST', '/v1/removal', '{"', 'application/json'), 400, 'api.not_json'],
    [send('POST', '/v1/removal', '<a/>', 'text/xml'), 415, 'api.not_json'],
    [send('POST', '/v1/removal', `"${'x'.repeat(3 * 1024 * 1024)}"`), 413, 'api.body_too_large'],
    [send('PATCH', '/v1/status'), 404, 'api.no_such_operation'],
  ];
  for (const [sent, status, code] of cases) {
    const answer = await sent;
    assert.equal(answer.status, status, answer.body);
    assert.match(answer.type, /^application\/problem\+json/);
    assert.equal(JSON.parse(answer.body).code, code);
  }
});

test('a fault in the agent leaves nothing of itself in the answer', async (t) => {
  const host = await enrolledAgent(t);
  await host.start();
  const client = localAgentClient(host.paths.socket);
  await assert.rejects(client.call(getMigration, { params: { id: ID } }), (error: Error) => {
    assert.equal((error as Error & { code: string }).code, 'api.internal');
    assert.doesNotMatch(error.message, /no migration in this test/);
    return true;
  });
});

test('an agent that only looks refuses what would change the host, and nothing reaches its engine', async (t) => {
  const host = await enrolledAgent(t, { mode: 'observe' });
  const asked: string[] = [];
  const agent = await host.start({ engines: noEngines(asked) });
  const connection = new ChannelConnection({
    target: {
      identity: host.manager,
      trustedAgentPins: new PinSet('agent', [host.agentPin]),
      host: '127.0.0.1',
      port: agent.channelPort,
    },
  });
  t.after(() => connection.close());
  const client = clientOver(connection);
  const refused = { code: 'agent.observe_only', category: 'denied' };
  const body = {
    epoch: 1,
    number: 1,
    credentials: [],
    settings: testDesiredSettings(),
  };
  await assert.rejects(client.call(putDesiredState, { body }), refused);
  await assert.rejects(client.call(cancelMigration, { params: { id: ID } }), refused);
  await assert.rejects(client.call(putCrls, { body: { crls: [], revoked: [] } }), refused);
  const status = await client.call(getStatus, {});
  assert.equal(status.mode, 'observe');
  assert.deepEqual(
    status.channels.map(({ managerPin }) => managerPin),
    [host.manager.pin],
  );
  assert.deepEqual(asked, []);
});

test('nobody passes the channel door with a key that the agent does not know', async (t) => {
  const host = await enrolledAgent(t);
  const agent = await host.start();
  const target = { host: '127.0.0.1', port: agent.channelPort, timeoutMs: 60_000 };
  await assert.rejects(
    dialChannel({
      ...target,
      identity: identityOf('manager'),
      trustedAgentPins: new PinSet('agent', [host.agentPin]),
    }),
    { code: 'channel.peer_refused' },
  );
  await assert.rejects(
    dialChannel({
      ...target,
      identity: host.manager,
      trustedAgentPins: new PinSet('agent', [madeUpPin('x')]),
    }),
    { code: 'channel.peer_untrusted' },
  );
});
