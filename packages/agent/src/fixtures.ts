import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { silentLog } from '@virt-trust/base/log.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import type { ChannelConnection } from '@virt-trust/channel/connection.ts';
import { identityOf } from '@virt-trust/channel/fixtures.ts';
import { ApiClient } from '@virt-trust/contract/client.ts';
import type { ObservedState } from '@virt-trust/contract/model/observed-state.ts';
import { type AgentOptions, type RunningAgent, runAgent } from './agent.ts';
import type { AgentKeys } from './ports/agent-context.ts';
import type { EngineFactory } from './ports/engines.ts';
import { makeStateDirectories } from './state/directories.ts';
import { IdentityStore } from './state/identity.ts';
import { ManagerStore } from './state/managers.ts';
import { type AgentOrder, orderDocument } from './state/order.ts';
import { type AgentPaths, agentPaths } from './state/paths.ts';

/** For tests: a directory of its own that goes with the test. */
export async function temporaryRoot(t: TestContext): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'virt-trust-agent-'));
  // Somebody may still write what happened last.
  t.after(() => rm(root, { recursive: true, force: true, maxRetries: 5 }));
  return root;
}

const NOTHING_APPLIED: ObservedState = {
  mode: 'manage',
  epoch: 0,
  number: 0,
  credentials: [],
  pending: [],
  served: [],
  crls: [],
  rescues: [],
  network: null,
  capabilities: null,
  failure: null,
  busy: false,
};

/** For tests of what is around them: parts that change nothing, and note what they were asked. */
export function noEngines(asked: string[] = []): EngineFactory {
  const observe = async (name: string) => {
    asked.push(name);
    return NOTHING_APPLIED;
  };
  const noMigration = async (name: string): Promise<never> => {
    asked.push(name);
    throw new Error('no migration in this test');
  };
  return async () => ({
    apply: {
      start: async () => {},
      observedState: () => observe('observedState'),
      putDesiredState: () => observe('putDesiredState'),
      desiredState: async () => null,
      certificateRequests: async () => [],
      putCertificates: () => observe('putCertificates'),
      postProofs: () => observe('postProofs'),
      remove: async () => ({ restored: ['/etc/libvirt/libvirtd.conf'], left: [] }),
      reloadWaits: () => [],
      beforeMigration: async () => {},
      stop: async () => {},
    },
    crls: {
      start: () => {},
      put: async () => {
        asked.push('putCrls');
        return { crls: [], disconnected: [] };
      },
      held: async () => [],
      stop: async () => {},
    },
    migrations: {
      create: () => noMigration('create'),
      start: () => noMigration('start'),
      get: () => noMigration('get'),
      cancel: () => noMigration('cancel'),
      list: () => noMigration('list'),
      vmState: () => noMigration('vmState'),
      close: async () => {},
    },
    grants: {
      start: async () => {},
      put: () => noMigration('put'),
      remove: () => noMigration('remove'),
      list: () => [],
      admit: () => {
        throw new Error('no grant in this test');
      },
      find: () => undefined,
      begin: async () => {},
      end: () => {},
      refresh: async () => {},
      close: async () => {},
    },
    arrivals: {
      start: async () => {},
      create: () => noMigration('create'),
      end: () => noMigration('end'),
      isRunning: async () => false,
      release: async () => {},
      close: async () => {},
    },
    preflights: {
      check: () => noMigration('check'),
      serve: () => noMigration('serve'),
      close: async () => {},
    },
    capabilities: { start: async () => {}, report: () => null, stop: async () => {} },
    network: { start: async () => {}, report: () => null, stop: async () => {} },
  });
}

export interface EnrolledAgent {
  readonly root: string;
  readonly paths: AgentPaths;
  readonly manager: ReturnType<typeof identityOf<'manager'>>;
  readonly agentPin: string;
  start(options?: Partial<AgentOptions>): Promise<RunningAgent>;
}

/** For tests: a host below a temporary root with keys, one manager and an order, as an installation leaves it. */
export async function enrolledAgent(t: TestContext, order: Partial<AgentOrder> = {}): Promise<EnrolledAgent> {
  const root = await temporaryRoot(t);
  const paths = agentPaths(root);
  await makeStateDirectories(paths);
  const { store } = await IdentityStore.open(paths.identity, systemRandomness);
  const manager = identityOf('manager');
  await ManagerStore.install(paths.managers, { epoch: 1, number: 1, pins: [manager.pin] }, store.pins);
  await orderDocument(paths).write({
    managerAddresses: ['127.0.0.1'],
    channelPort: 16515,
    // Touches no firewall of the machine that tests.
    mode: 'observe',
    ...order,
  });
  return {
    root,
    paths,
    manager,
    agentPin: store.current.pin,
    async start(options = {}) {
      const agent = await runAgent({
        root,
        log: silentLog,
        engines: noEngines(),
        uninstall: async () => {},
        channelPort: 0,
        ...options,
      });
      t.after(() => agent.close());
      return agent;
    },
  };
}

/** For tests: keys of an agent that obeys one manager. */
export function keysOf(current = identityOf('agent'), manager = identityOf('manager')): () => AgentKeys {
  return () => ({ current, own: current.asPinSet(), managers: manager.asPinSet() });
}

/** For tests: the manager's client over a channel. */
export function clientOver(connection: ChannelConnection): ApiClient {
  return new ApiClient(async ({ method, path, headers, body, signal }) => {
    const response = await connection.request({
      method,
      path,
      headers,
      ...(body === undefined ? {} : { body }),
      ...(signal === undefined ? {} : { signal }),
    });
    return {
      status: response.status,
      contentType: String(response.headers['content-type'] ?? ''),
      body: response.body.toString('utf8'),
    };
  }, 'the agent');
}
