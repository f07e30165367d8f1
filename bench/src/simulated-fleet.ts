import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import { parseHostId } from '@virt-trust/base/host-id.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { parseSpkiPin } from '@virt-trust/base/spki-pin.ts';
import { jobChanges } from '@virt-trust/cli/job-watch.ts';
import { type ManagerClient, managerClient } from '@virt-trust/cli/manager-client.ts';
import { provisionHost } from '@virt-trust/contract/manager/host-operations.ts';
import { getManagerIdentity } from '@virt-trust/contract/manager/self-operations.ts';
import { putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import type { ComposeDomain, Core } from '@virt-trust/manager/core.ts';
import { domainsOf } from '@virt-trust/manager/domains.ts';
import type { Host } from '@virt-trust/manager/hosts/host.ts';
import { type RunningManager, startManager } from '@virt-trust/manager/manager.ts';
import { SqliteHostRepository } from '@virt-trust/manager/store/host-repository.ts';
import { openStore } from '@virt-trust/manager/store/open-store.ts';
import { startOwn } from './child.ts';

const MOST_MINUTES = 5;

interface Agent {
  readonly name: string;
  readonly pin: string;
  readonly port: number;
}

async function start(stateDirectory: string): Promise<RunningManager & { readonly core: Core }> {
  const composed = Promise.withResolvers<Core>();
  const watch: ComposeDomain = async (core) => {
    composed.resolve(core);
    return { handlers: {} };
  };
  const manager = await startManager(
    { stateDirectory, version: 'bench', listen: { address: '127.0.0.1', port: 0 }, log: silentLog },
    [...domainsOf({ dns: [], subnets: [] }), watch],
  );
  return Object.assign(manager, { core: await composed.promise });
}

/** As enrolment would have recorded it; no address of it is ever dialled but its channel's. */
function hostOf({ name, pin, port }: Agent, index: number, cluster: string): Host {
  const addresses = [`10.77.${index >> 8}.${index & 255}`];
  return {
    id: parseHostId(randomUUID()),
    name,
    cluster,
    state: 'enrolling',
    reason: null,
    ssh: { destination: `root@${name}` },
    sshHostKey: 'ssh-ed25519 AAAA',
    channel: { address: '127.0.0.1', port },
    managerAddresses: [],
    observeOnly: false,
    agentPins: [parseSpkiPin(pin)],
    declared: {
      interface: 'eth0',
      names: { dns: [name], addresses },
      interfaces: [{ name: 'eth0', roles: ['management'], names: { dns: [name], addresses } }],
      refused: [],
    },
    word: { dns: [name], accepted: addresses, outside: { dns: [], addresses: [] }, interfaces: {} },
    found: {
      identities: [],
      authorities: [],
      tcpListening: false,
      vncTls: false,
      spiceTls: false,
      vms: 0,
      allowedDns: false,
    } as Host['found'],
    grantedGates: [],
    desiredNumber: 0,
    revisions: {},
    inventory: null,
    observed: null,
  };
}

async function record(
  stateDirectory: string,
  agents: readonly Agent[],
  clusterOf: (index: number) => string,
): Promise<void> {
  const { database, close } = openStore(stateDirectory, systemClock);
  try {
    const repository = new SqliteHostRepository(database);
    for (const [index, agent] of agents.entries())
      await repository.save(hostOf(agent, index, clusterOf(index)));
  } finally {
    close();
  }
}

export const set = (client: ManagerClient, setting: string, value: string | number) =>
  client.call(putSetting, { params: { setting }, query: {}, body: { value } });

/** The first certificates of all hosts, asked for by name. */
async function provisionAll(client: ManagerClient, agents: readonly Agent[]): Promise<void> {
  const signal = AbortSignal.timeout(MOST_MINUTES * 60_000);
  const jobs = await Promise.all(
    agents.map(({ name }) => client.call(provisionHost, { params: { name }, body: {} }, { signal })),
  );
  for (const job of jobs) {
    let last = job;
    for await (const current of jobChanges(client, job, signal)) last = current;
    if (last.state !== 'done')
      throw new TrustError('bench.not_provisioned', 'failed', `cannot measure: ${last.error?.message}`);
  }
}

/** A manager with its simulated hosts. */
export interface SimulatedFleet {
  readonly core: Core;
  readonly client: ManagerClient;
}

/** Works with a manager and, in a process beside it, so many simulated agents with certificates of their own. */
export async function withSimulatedFleet<T>(
  { hosts, clusterOf = () => 'default' }: { hosts: number; clusterOf?: (index: number) => string },
  say: (line: string) => void,
  work: (fleet: SimulatedFleet) => Promise<T>,
): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'virt-trust-bench-'));
  const first = await start(directory);
  const token = first.initialToken ?? '';
  const { current } = await managerClient({ url: first.url, token }).call(getManagerIdentity, {});
  await first.close();
  const child = await startOwn('./simulated-agents.ts', [String(hosts), current]);
  let manager: Awaited<ReturnType<typeof start>> | undefined;
  try {
    const agents = JSON.parse(child.line) as Agent[];
    await record(directory, agents, clusterOf);
    manager = await start(directory);
    const client = managerClient({ url: manager.url, token });
    // No host of this fleet can be looked at from outside.
    await set(client, 'probe.interval_seconds', 86_400);
    say(`provisioning ${hosts} simulated hosts`);
    await provisionAll(client, agents);
    return await work({ core: manager.core, client });
  } finally {
    await manager?.close();
    await child.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}
