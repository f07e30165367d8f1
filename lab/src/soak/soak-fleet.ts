import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import { VERSION } from '@virt-trust/base/version.ts';
import { jobChanges } from '@virt-trust/cli/job-watch.ts';
import { type ManagerClient, managerClient } from '@virt-trust/cli/manager-client.ts';
import { addHost } from '@virt-trust/contract/manager/host-operations.ts';
import { putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import type { ComposeDomain } from '@virt-trust/manager/core.ts';
import { domainsOf } from '@virt-trust/manager/domains.ts';
import type { OwnClients } from '@virt-trust/manager/issuance/own-client.ts';
import { composeIssuance } from '@virt-trust/manager/issuance-domain.ts';
import { createLog } from '@virt-trust/manager/log.ts';
import { type RunningManager, startManager } from '@virt-trust/manager/manager.ts';
import { buildProgram } from '../../../tools/build.ts';
import { Lab } from '../lab.ts';

export interface SoakFleetOptions {
  readonly name: string;
  readonly clock: Clock;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
}

/** Two hosts of the lab with certificates that live five minutes, and the manager that renews them, in this process. */
export class SoakFleet {
  readonly lab: Lab;
  readonly client: ManagerClient;
  /** Under which the probes come to libvirt. */
  readonly ownClients: OwnClients;
  readonly #manager: RunningManager;
  readonly #stateDirectory: string;

  private constructor(lab: Lab, manager: RunningManager, ownClients: OwnClients, stateDirectory: string) {
    this.lab = lab;
    this.#manager = manager;
    this.ownClients = ownClients;
    this.#stateDirectory = stateDirectory;
    this.client = managerClient({ url: manager.url, token: manager.initialToken ?? '' });
  }

  static async up({ name, clock, say, signal }: SoakFleetOptions): Promise<SoakFleet> {
    const agentProgram = await buildProgram();
    signal.throwIfAborted();
    say('booting two hosts');
    const lab = await Lab.up({ name, hosts: ['soak-a', 'soak-b'], keepState: false, signal });
    const stateDirectory = await mkdtemp(join(tmpdir(), 'vt-soak-'));
    let fleet: SoakFleet | undefined;
    try {
      const constraints = { dns: lab.hosts.map((host) => host.name), subnets: lab.ranges };
      const probing = Promise.withResolvers<OwnClients>();
      const clients: ComposeDomain = async (core) => {
        const nobody = { find: async () => null };
        const managerNames = () => ({ dns: [], addresses: [] });
        const issuing = await composeIssuance(core, { declaredNames: nobody, managerNames, constraints });
        probing.resolve(issuing.ownClients);
        return { handlers: {}, close: () => issuing.close() };
      };
      const options = {
        stateDirectory: join(stateDirectory, 'manager'),
        version: VERSION,
        listen: { address: '127.0.0.1', port: 0 },
        agentProgram,
        log: createLog('error'),
        constraints,
        clock,
      };
      const manager = await startManager(options, [...domainsOf(constraints), clients]);
      fleet = new SoakFleet(lab, manager, await probing.promise, stateDirectory);
      say('giving them certificates that live 5 minutes');
      await fleet.#enrol(signal);
      return fleet;
    } catch (error) {
      await (fleet?.down() ?? lab.down({ deleteState: true }));
      await rm(stateDirectory, { recursive: true, force: true });
      throw error;
    }
  }

  async #enrol(signal: AbortSignal): Promise<void> {
    const lifetime = { params: { setting: 'certificate.lifetime' }, query: {}, body: { value: '5m' } };
    await this.client.call(putSetting, lifetime);
    await Promise.all(
      this.lab.hosts.map(async (host) => {
        const ssh = { destination: host.sshTarget, identityFile: this.lab.sshKey };
        const body = { name: host.name, ssh, fingerprint: (await host.sshFingerprint()) as never };
        await this.finished(await this.client.call(addHost, { body }), signal);
      }),
    );
  }

  /** Follows a job to its end; throws what it failed with. */
  async finished(job: Job, signal: AbortSignal): Promise<Job> {
    let last = job;
    for await (const current of jobChanges(this.client, job, signal)) last = current;
    if (last.state === 'done') return last;
    const at = last.steps.find((step) => step.state === 'failed')?.name ?? 'the end';
    throw new TrustError(
      last.error?.code ?? 'job.cancelled',
      'failed',
      `${last.kind} ${last.subject} ${last.state} at ${at}: ${last.error?.message ?? ''}`,
    );
  }

  /** Ends the manager, shuts the hosts down and deletes everything. */
  async down(): Promise<void> {
    try {
      await this.#manager.close();
    } finally {
      await this.lab.down({ deleteState: true });
      await rm(this.#stateDirectory, { recursive: true, force: true });
    }
  }
}
