import type { TestContext } from 'node:test';
import type { HostId } from '@virt-trust/base/host-id.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import type { Interface } from '@virt-trust/contract/model/inventory.ts';
import { parseTbsCertificate } from '@virt-trust/pki/certificate.ts';
import { certifiableBy } from '../authorities/certifiable-name.ts';
import { EventLog } from '../events/event-log.ts';
import { declaredForIssuance } from '../hosts/declared-host.ts';
import { credentialNames } from '../hosts/desired-state.ts';
import { declaredOn, settledState, testHost, testInterface } from '../hosts/fixtures.ts';
import type { Host } from '../hosts/host.ts';
import { namesIn } from '../issuance/certificate-view.ts';
import { issuanceOn, requestPem } from '../issuance/fixtures.ts';
import { Issuance } from '../issuance/issuance.ts';
import type { JobContext, JobDefinition } from '../jobs/job.ts';
import { JobRunner } from '../jobs/job-runner.ts';
import { Revoking } from '../revocation/revoking.ts';
import { SqliteEventStore } from '../store/event-store.ts';
import { settableClock } from '../store/fixtures.ts';
import { SqliteHostRepository } from '../store/host-repository.ts';
import { SqliteJobStore } from '../store/job-store.ts';
import { openStore } from '../store/open-store.ts';
import { SqliteRevocationStore } from '../store/revocation-store.ts';
import { Declaring } from './declaring.ts';
import { bearsOnInterfaces } from './interface-settings.ts';
import { Reaction } from './reaction.ts';

const MANAGER: SubjectAltNames = { dns: ['manager.example'], addresses: ['10.0.2.254'] };

/**
 * Hosts on a real store that are provisioned in no time, by real issuance under its policy, and what keeps them declared;
 * a second one on the same directory is a restart.
 */
export async function declaringFleet(
  t: TestContext,
  directory: string,
  clock: ReturnType<typeof settableClock> = settableClock(),
) {
  const stop = new AbortController();
  const { database, close } = openStore(directory, clock);
  const repository = new SqliteHostRepository(database, clock);
  const { authorities, certificates, settings, audit } = await issuanceOn(database, clock);
  const managerNamesFor = () => MANAGER;
  const mayCertify = certifiableBy(authorities);
  const issuance = new Issuance({
    authorities,
    certificates,
    declaredNames: { find: async (name) => declaredForIssuance(await repository.find(name)) },
    settings,
    audit,
    log: silentLog,
    clock,
    randomness: systemRandomness,
    managerNames: () => MANAGER,
  });
  const revoked = new SqliteRevocationStore(database, clock);
  const revocations = new Revoking({ repository: revoked, authorities, clock, onChange: () => {} });
  const jobs = new JobRunner({
    store: new SqliteJobStore(database, clock),
    events: new EventLog(new SqliteEventStore(database, clock)),
    clock,
    log: silentLog,
    concurrency: 32,
  });
  /** The hosts that were provisioned, in order. */
  const provisioned: string[] = [];
  let before: (host: Host, job: JobContext) => Promise<void> = async () => {};
  const job: JobDefinition<{ host: string; renew: boolean }> = {
    kind: 'host-provision',
    async run({ host: name }, context) {
      const host = await repository.find(name);
      if (host === null) throw new Error('no such host');
      provisioned.push(name);
      await before(host, context);
      await serveAnew(host);
      const now = await hostOf(name);
      const planned = [{ service: 'libvirt' as const, names: credentialNames(now, 'libvirt').names }];
      await revocations.revokeEstranged(now, planned, { actor: 'test', origin: context.id });
      return 'done';
    },
  };
  jobs.register(job);
  /** What an agent does that serves what its host is declared with: another certificate where the names differ. */
  const serveAnew = async ({ id, name }: Host): Promise<void> => {
    const host = await repository.get(id);
    if (host === null) return;
    const { commonName, names } = credentialNames(host, 'libvirt');
    const csr = await requestPem({ commonName, names: [...names.dns, ...names.addresses] });
    const order = { host: name, service: 'libvirt', csr, actor: 'test' } as const;
    const { serialNumber, notAfter } = await issuance.issueForHost(order);
    const credentials = settledState('ours')
      .credentials.filter(({ service }) => service === 'libvirt')
      .map((credential) => ({ ...credential, serialNumber, notAfter }));
    await repository.update(id, (now) => ({
      ...now,
      observed: { ...(now.observed ?? settledState('ours')), credentials },
    }));
  };
  const down = new Set<HostId>();
  const held = { frozen: false };
  const declaring = new Declaring({
    repository,
    settings,
    certificates,
    revocations,
    managerNamesFor,
    mayCertify,
    jobs,
    job,
  });
  const reaction = new Reaction({
    declaring,
    repository,
    jobs,
    isUp: (id) => !down.has(id),
    isHeld: async () => held.frozen,
    clock,
    randomness: systemRandomness,
    log: silentLog,
    signal: stop.signal,
  });
  repository.onChange((id) => reaction.written(id));
  const listening: Promise<void>[] = [];
  settings.onChange((name, place) => {
    if (bearsOnInterfaces(name)) listening.push(reaction.settingsChanged(place));
  });
  await jobs.start();
  let closed = false;
  const stopAll = async (): Promise<void> => {
    if (closed) return;
    closed = true;
    stop.abort();
    await jobs.close();
    await reaction.idle();
    await issuance.settled();
    close();
  };
  t.after(stopAll);
  const settle = async (): Promise<void> => {
    await Promise.all(listening.splice(0));
    await reaction.idle();
  };
  return {
    clock,
    database,
    repository,
    settings,
    audit,
    certificates,
    revocations,
    issuance,
    jobs,
    declaring,
    reaction,
    provisioned,
    down,
    held,
    stop: stopAll,
    settle,
    onProvision(next: typeof before) {
      before = next;
    },
    setting: (name: string, value: string[], cluster?: string) =>
      settings.put(
        name,
        value,
        cluster === undefined ? { scope: 'global', target: '' } : { scope: 'cluster', target: cluster },
        'token:admin',
      ),
    /** Adds a host with one interface that was accepted, and has it serve. */
    async add(name: string, address: string, more: Partial<Host> = {}): Promise<Host> {
      const names = { dns: [name], addresses: [address] };
      const host = testHost(name, {
        declared: declaredOn('eth0', names),
        word: { dns: [name], accepted: [address], outside: { dns: [], addresses: [] }, interfaces: {} },
        channel: { address, port: 16515 },
        observed: settledState('none', {
          network: { hostName: name, interfaces: [testInterface('eth0', [address])] },
        }),
        ...more,
      });
      await repository.save(host);
      if (!host.observeOnly && host.state === 'secured') await serveAnew(host);
      await settle();
      return hostOf(name);
    },
    /** What the agent of a host reports from now on, besides its eth0. */
    async report(name: string, ...interfaces: readonly Interface[]): Promise<void> {
      const host = await hostOf(name);
      await repository.update(host.id, (now) => {
        const known = now.observed?.network?.interfaces ?? [];
        const named = interfaces.map((one) => one.name);
        const others = known.filter((one) => one.name === 'eth0' && !named.includes('eth0'));
        const network = { hostName: name, interfaces: [...others, ...interfaces] };
        return { ...now, observed: { ...(now.observed ?? settledState('ours')), network } };
      });
    },
    hostOf,
    /** The names in the certificate that a host serves. */
    async served(name: string): Promise<string[]> {
      const { observed } = await hostOf(name);
      const serial = observed?.credentials.find(({ service }) => service === 'libvirt')?.serialNumber;
      const record = serial == null ? null : await certificates.find(serial as never);
      return record === null ? [] : namesOf(record.tbs);
    },
    audited: async (action: string) =>
      (await audit.list(0, 10_000))
        .filter((entry) => entry.action === action)
        .map(({ actor, subject, outcome, detail }) => ({ actor, subject, outcome, detail })),
  };

  async function hostOf(name: string): Promise<Host> {
    const host = await repository.find(name);
    if (host === null) throw new Error(`no host ${name}`);
    return host;
  }
}

function namesOf(tbs: Uint8Array): string[] {
  const { dns, addresses } = namesIn(parseTbsCertificate(tbs));
  return [...dns, ...addresses];
}
