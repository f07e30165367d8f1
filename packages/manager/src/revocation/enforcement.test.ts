import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TrustError } from '@virt-trust/base/error.ts';
import { DAY, HOUR } from '@virt-trust/base/instant.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import { EventLog } from '../events/event-log.ts';
import { over } from '../jobs/fixtures.ts';
import type { JobContext } from '../jobs/job.ts';
import { JobRunner } from '../jobs/job-runner.ts';
import { SqliteEventStore } from '../store/event-store.ts';
import { SqliteJobStore } from '../store/job-store.ts';
import type { CrlIssuer } from './crl-issuer.ts';
import type { CrlDelivery } from './delivery.ts';
import { Enforcement } from './enforcement.ts';
import { fleetOf, simulatedHosts } from './fixture-fleet.ts';
import type { SimulatedHost } from './fixture-hosts.ts';
import { asked } from './fixtures.ts';
import { revocationJob } from './revocation-job.ts';

/** A job that only remembers its steps. */
function recordingJob(signal: AbortSignal): JobContext & { readonly said: Map<string, string> } {
  const said = new Map<string, string>();
  return {
    id: 'job',
    subject: 'x',
    actor: 'token:admin',
    signal,
    said,
    step: async (name, run) => run((detail) => said.set(name, detail)),
    progress: () => {},
    plan: () => {},
    migration: () => {},
    remember: async () => {},
    recall: async () => undefined,
    warn: () => {},
  };
}

const numberOf = (host: SimulatedHost | undefined, purpose = 'control') =>
  Number.parseInt(host?.held.get(purpose)?.number ?? '0', 16);

test('every host that is up gets the CRLs of all its purposes and whose sessions to cut; one that is away, later', async (t) => {
  const { enforcement, simulated, delivery, issuer, revoking, issue, signal, repository, clock, crls } =
    await fleetOf(t, simulatedHosts(['host-1', 'host-2']));
  const [one, two] = simulated;
  assert.ok(one && two);
  await enforcement.run('if-needed', [], recordingJob(signal));
  two.up = false;
  clock.advance(HOUR);
  await revoking.revoke(await issue(), asked());
  const job = recordingJob(signal);
  const result = await enforcement.run('if-needed', await repository.partyOf('job-1'), job);
  assert.equal(
    result,
    '1 of 2 hosts have the newest CRLs, proven on 0; host-2 will have them when they are back',
  );
  assert.match(
    job.said.get('Bring them to the hosts') ?? '',
    /^host host-2 is away .*; host host-1 has them, cut /,
  );
  assert.deepEqual([...one.held.keys()].sort(), ['console', 'control', 'migration', 'storage']);
  assert.equal(numberOf(one), issuer.current('control')?.number);
  assert.ok(numberOf(two) < numberOf(one));
  assert.ok(one.cut[0]?.subjects.includes('CN=kvm1,O=virt-trust'));
  two.up = true;
  await delivery.catchUp('host-2', signal);
  assert.equal(numberOf(two), numberOf(one));
  assert.deepEqual(two.cut, one.cut);
  assert.equal((await crls.deliveriesTo(two.host.id)).length, 4);
});

test('a host that hangs or refuses holds no other up, and the job says that it goes without', async (t) => {
  const { enforcement, simulated, signal } = await fleetOf(t, simulatedHosts(['host-1', 'host-2', 'host-3']));
  const [one, two, three] = simulated;
  assert.ok(one && two && three);
  const hanging = Promise.withResolvers<never>();
  one.refusal = () => hanging.promise;
  two.failure = 'libvirtd does not answer';
  const job = recordingJob(signal);
  const run = enforcement.run('if-needed', [], job);
  run.catch(() => {});
  while (three.held.size < 3) await new Promise(setImmediate);
  hanging.reject(new TrustError('crl.refused', 'failed', 'no place left'));
  await assert.rejects(run, (error) => {
    assert.ok(error instanceof TrustError && error.code === 'revocation.not_enforced');
    assert.match(error.message, /host host-1 has not loaded the CRLs: no place left/);
    assert.match(error.message, /host host-2 .*not loaded: libvirtd does not answer/);
    assert.doesNotMatch(error.message, /host-3/);
    return true;
  });
});

test('each CRL of control revokes one canary, whose client this manager has, and none before', async (t) => {
  const { issuer, canaries, repository } = await fleetOf(t, simulatedHosts(['host-1']));
  const first = await issuer.ensure('control');
  const second = await issuer.ensure('control', 'anew');
  assert.ok(first.canary && second.canary);
  assert.notEqual(first.canary, second.canary);
  for (const serial of [first.canary, second.canary])
    assert.equal(repository.statusOf(serial).kind, 'revoked');
  assert.equal(canaries.clientOf(first.canary), null);
  assert.match(canaries.clientOf(second.canary)?.certificatePem ?? '', /BEGIN CERTIFICATE/);
  assert.equal((await issuer.ensure('migration')).canary, null);
});

test('upkeep signs the first CRLs, signs them anew when they are due, and tells hosts that are behind', async (t) => {
  const { upkeep, issuer, simulated, clock, delivery, signal } = await fleetOf(t, simulatedHosts(['host-1']));
  const [one] = simulated;
  await upkeep.start();
  await upkeep.idle();
  const first = issuer.current('control')?.number ?? 0;
  assert.equal(numberOf(one), first);
  await upkeep.look();
  assert.equal(issuer.current('control')?.number, first);
  clock.advance(3.5 * DAY);
  await upkeep.look();
  assert.ok(numberOf(one) > first);
  assert.equal(numberOf(one), issuer.current('control')?.number);
  assert.equal(numberOf(one, 'console'), issuer.current('console')?.number);
  one?.held.clear();
  assert.ok(one);
  assert.equal((await delivery.deliver(one.host, [], signal)).kind, 'current');
});

test('alarms: a host that is behind, a CRL near its end and past it, and a revoked certificate that is served', async (t) => {
  const { upkeep, simulated, clock, conditions, hosts, issue, revoking } = await fleetOf(
    t,
    simulatedHosts(['host-1']),
  );
  const [one] = simulated;
  assert.ok(one);
  await upkeep.look();
  assert.deepEqual(await conditions(), []);
  one.up = false;
  clock.advance(3.5 * DAY);
  await upkeep.look();
  clock.advance(2 * DAY);
  const kinds = async () => new Set((await conditions()).map(({ kind, severity }) => `${kind} ${severity}`));
  assert.deepEqual(await kinds(), new Set(['crl-behind warning', 'crl-stale warning']));
  clock.advance(2 * DAY);
  assert.deepEqual(await kinds(), new Set(['crl-behind warning', 'crl-stale critical']));
  one.up = true;
  await upkeep.look();
  assert.deepEqual(await kinds(), new Set());
  const serial = await issue();
  await revoking.revoke(serial, asked());
  await hosts.update(one.host.id, (host) => ({
    ...host,
    observed: host.observed && {
      ...host.observed,
      credentials: host.observed.credentials.map((credential, index) =>
        index === 0 ? { ...credential, serialNumber: serial } : credential,
      ),
    },
  }));
  const [served] = (await conditions()).filter(({ kind }) => kind === 'revoked-served');
  assert.equal(served?.host, 'host-1');
  assert.match(served?.action ?? '', /virt-trust host provision host-1/);
});

test('a revocation that is killed at any of its steps is finished by the next start, once', async (t) => {
  for (const at of ['record', 'sign', 'bring'] as const) {
    const on = await fleetOf(t, simulatedHosts(['host-1']));
    const { database, clock, repository, revoking, audit, simulated } = on;
    const serial = await on.issue();
    const store = new SqliteJobStore(database, clock);
    let killed = false;
    const killAt = (step: typeof at) => {
      if (step !== at || killed) return;
      killed = true;
      throw killing;
    };
    const killing = new Error('killed');
    const runnerWith = () => {
      const enforcement = new Enforcement({
        ...partsOf(on),
        issuer: Object.assign(Object.create(on.issuer), {
          ensure: async (...call: Parameters<CrlIssuer['ensure']>) => {
            killAt('sign');
            return on.issuer.ensure(...call);
          },
        }),
        delivery: Object.assign(Object.create(on.delivery), {
          deliver: async (...call: Parameters<CrlDelivery['deliver']>) => {
            killAt('bring');
            return on.delivery.deliver(...call);
          },
        }),
      });
      const runner = new JobRunner({
        store,
        events: new EventLog(new SqliteEventStore(database, clock)),
        clock,
        log: silentLog,
        concurrency: 4,
      });
      const definition = revocationJob({
        revoking: Object.assign(Object.create(revoking), {
          revoke: async (...call: Parameters<typeof revoking.revoke>) => {
            await revoking.revoke(...call);
            killAt('record');
          },
        }),
        repository,
        enforcement,
        requireHost: async () => assert.fail(),
        isHeld: () => false,
        recover: async () => assert.fail(),
        cancelMigrations: async () => 0,
      });
      runner.register({
        ...definition,
        run: async (payload, job) =>
          definition.run(payload as never, job).catch((error: unknown) => {
            // As a process that is gone: it says nothing more.
            if (error === killing) return new Promise<string>(() => {});
            throw error;
          }),
      });
      return { runner, definition };
    };
    const first = runnerWith();
    await first.runner.start();
    const { id } = await first.runner.enqueue(first.definition, {
      subject: serial,
      payload: { kind: 'certificate', serial, reason: 'keyCompromise', comment: '' },
      actor: 'token:admin',
      locks: [],
    });
    while (!killed) await new Promise(setImmediate);
    const second = runnerWith();
    await second.runner.start();
    const job: Job = await over(second.runner, id);
    assert.equal(job.state, 'done', `${at}: ${job.error?.message}`);
    assert.equal(repository.statusOf(serial).kind, 'revoked');
    assert.equal(numberOf(simulated[0]), on.issuer.current('control')?.number);
    const entries = (await audit.list(0, 1000)).filter(
      ({ action, subject }) => action === 'certificate.revoke' && subject === serial,
    );
    assert.equal(entries.length, 1);
  }
});

function partsOf(on: Awaited<ReturnType<typeof fleetOf>>) {
  const { authorities, issuer, delivery, canaries, hosts, clock } = on;
  const ownClient = async () => ({ certificatePem: '', privateKeyPem: '' });
  return { authorities, issuer, delivery, canaries, hosts, clock, ownClient };
}
