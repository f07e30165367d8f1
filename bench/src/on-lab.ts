import { mkdtemp, rm } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { TrustError } from '@virt-trust/base/error.ts';
import { failureOf, isOver, jobChanges } from '@virt-trust/cli/job-watch.ts';
import { type ManagerClient, managerClient } from '@virt-trust/cli/manager-client.ts';
import { addHost, removeHost } from '@virt-trust/contract/manager/host-operations.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import { canBootLab } from '@virt-trust/lab/capability.ts';
import { startDemoManager } from '@virt-trust/lab/demo/demo-manager.ts';
import type { Host } from '@virt-trust/lab/host.ts';
import { Lab } from '@virt-trust/lab/lab.ts';
import { buildProgram } from '../../tools/build.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** What is measured on: booted hosts that nobody manages yet, and a manager that is asked as the command line asks it. */
export interface Bed {
  readonly lab: Lab;
  readonly client: ManagerClient;
  /** Aborted when somebody stops the benchmark. */
  readonly signal: AbortSignal;
}

/** A host that was added: the job with its steps, and the seconds from the request to the news of its end. */
export interface Added {
  readonly job: Job;
  readonly seconds: number;
}

/**
 * Boots a lab with a manager for it, works on it and takes all of it away again, also when the work fails or somebody
 * stops it. Throws `bench.no_lab` where this machine can't boot one, `bench.interrupted`.
 */
export async function onLab<T>(
  options: { readonly name: string; readonly hosts: readonly string[]; readonly say: (line: string) => void },
  work: (bed: Bed) => Promise<T>,
): Promise<T> {
  const capability = await canBootLab();
  if (capability.kind === 'no')
    throw new TrustError('bench.no_lab', 'failed', `cannot boot the lab: ${capability.why}`);
  const stop = new AbortController();
  const onSignal = (name: (typeof SIGNALS)[number]) => {
    process.exitCode = 128 + constants.signals[name];
    stop.abort(new TrustError('bench.interrupted', 'failed', `stopped by ${name}`));
  };
  for (const name of SIGNALS) process.on(name, onSignal);
  try {
    const program = await buildProgram(options.say);
    options.say(`booting ${options.hosts.length === 1 ? 'a host' : `${options.hosts.length} hosts`}`);
    const { name, hosts } = options;
    await using lab = await Lab.up({ name, hosts, keepState: false, signal: stop.signal });
    return await withManager(lab, program, (client) => work({ lab, client, signal: stop.signal }));
  } catch (error) {
    // What broke because it was stopped says so.
    throw stop.signal.aborted ? stop.signal.reason : error;
  } finally {
    for (const name of SIGNALS) process.off(name, onSignal);
  }
}

async function withManager<T>(
  lab: Lab,
  program: string,
  work: (client: ManagerClient) => Promise<T>,
): Promise<T> {
  const stateDirectory = await mkdtemp(join(tmpdir(), 'virt-trust-bench-'));
  try {
    const constraints = { dns: lab.hosts.map((host) => host.name), subnets: lab.ranges };
    const manager = await startDemoManager({ stateDirectory, port: 0, program, constraints });
    try {
      return await work(managerClient({ url: manager.url, token: manager.initialToken ?? '' }));
    } finally {
      await manager.close();
    }
  } finally {
    await rm(stateDirectory, { recursive: true, force: true });
  }
}

/** Does what `virt-trust host add` does, on a host that has nothing of ours; throws the job's error. */
export async function add({ lab, client, signal }: Bed, host: Host): Promise<Added> {
  const fingerprint = await host.sshFingerprint();
  const body = {
    name: host.name,
    ssh: { destination: host.sshTarget, identityFile: lab.sshKey },
    fingerprint,
  };
  const began = performance.now();
  const job = await finish(client, await client.call(addHost, { body }, { signal }), signal);
  const seconds = (performance.now() - began) / 1000;
  const copy = job.steps.find((step) => step.name === 'Copy the program');
  if (copy === undefined || !copy.detail.includes('sha256'))
    throw new TrustError('bench.not_copied', 'failed', `cannot count the copy: ${copy?.detail ?? 'no step'}`);
  return { job, seconds };
}

/** Gives the host back what was found on it and waits until nothing of ours is left there, the program included. */
export async function remove({ client, signal }: Bed, host: Host): Promise<void> {
  const order = { params: { name: host.name }, query: {} };
  await finish(client, await client.call(removeHost, order, { signal }), signal);
  const gone =
    '! systemctl is-active --quiet virt-trust-agent && ! [ -e /usr/local/lib/virt-trust/virt-trust ]';
  while ((await host.exec(['sh', '-c', gone])).code !== 0) await delay(100, undefined, { signal });
}

/** Follows a job to its end; throws its error. */
export async function finish(client: ManagerClient, job: Job, signal: AbortSignal): Promise<Job> {
  let last = job;
  for await (const current of jobChanges(client, job, signal)) last = current;
  if (isOver(last) && last.state === 'done') return last;
  throw failureOf(last);
}
