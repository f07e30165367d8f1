import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { isTrustError } from '@virt-trust/base/error.ts';
import { DAY, type Instant, MINUTE } from '@virt-trust/base/instant.ts';
import { getCertificate, listCertificates } from '@virt-trust/contract/manager/certificate-operations.ts';
import { listJobs } from '@virt-trust/contract/manager/job-operations.ts';
import {
  getFreeze,
  listRenewals,
  putFreeze,
  renewCertificate,
} from '@virt-trust/contract/manager/lifecycle-operations.ts';
import { putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { canBootLab } from '../src/capability.ts';
import type { Host } from '../src/host.ts';
import { soak } from '../src/soak/soak.ts';
import { until } from '../src/until.ts';
import { qemuProcesses, startVm } from '../src/vm.ts';
import { Fleet } from './fleet.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;
const PATIENCE = 180_000;

describe('a fleet with certificates of five minutes, under probes, VM starts and migrations', {
  skip,
}, () => {
  it('renews each service of each host several times, and not one handshake, start or migration fails', async (t) => {
    const least = {
      done: { 'libvirt handshake': 201, 'VNC handshake': 201, 'VM start': 5, migration: 5 },
      seen: 3,
    };
    const { tally, issued, seen } = await soak(
      // At twice the speed a renewal that is due last has more than half a minute before the certificate is over.
      { minutes: 9, clockRate: 2 },
      { name: `e2e-soak-${process.pid}`, say: (line) => t.diagnostic(line), signal: t.signal, least },
    );
    for (const line of tally.lines()) t.diagnostic(line);
    assert.deepEqual(tally.failures, []);
    assert.ok(tally.count('libvirt handshake') > 200);
    assert.ok(tally.count('VNC handshake') > 200);
    assert.ok(tally.count('VM start') >= 5 && tally.count('migration') >= 5);
    for (const host of ['soak-a', 'soak-b'])
      for (const service of ['libvirt', 'migration', 'vnc']) {
        const count = issued.get(`${service} of ${host}`) ?? 0;
        assert.ok(count >= 3, `${service} of ${host} was issued ${count} times`);
      }
    for (const [where, count] of seen) assert.ok(count >= 3, `${count} certificates seen served at ${where}`);
    assert.equal(seen.size, 4);
  });
});

/** A clock that stands as far ahead of the machine's as the story set it. */
function shiftedClock() {
  let ahead = 0;
  return {
    now: () => (systemClock.now() + ahead) as Instant,
    advance: (milliseconds: number) => {
      ahead += milliseconds;
    },
  };
}

describe('renewals that explain themselves, and let themselves be held back', { skip }, () => {
  const clock = shiftedClock();
  let fleet: Fleet;
  let a: Host;

  before(async () => {
    fleet = await Fleet.up({ lab: `e2e-renew-${process.pid}`, hosts: ['host-a', 'host-b'], clock });
    a = fleet.host('host-a');
    await Promise.all([fleet.add('host-a'), fleet.add('host-b')]);
    await startVm(a, { name: 'guest', vncListen: '0.0.0.0' });
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  const serialOf = async (host: string, service: Service) => {
    const { observed } = await fleet.show(host);
    return observed?.credentials.find((one) => one.service === service)?.serialNumber ?? '';
  };
  const set = (setting: string, value: string | null, host?: string) =>
    fleet.client.call(putSetting, {
      params: { setting },
      query: host === undefined ? {} : { host },
      body: { value },
    });
  const renewals = async (host: string) => (await fleet.client.call(listRenewals, { query: { host } })).items;
  /** Waits until it is, and nothing more is done for the host: its other certificates may be due with it. */
  const renewed = (host: string, service: Service, before: string) =>
    until(`see ${service} of ${host} renewed`, PATIENCE, async () => {
      if ((await serialOf(host, service)) === before) return undefined;
      if ((await renewals(host)).some(({ state }) => state !== 'planned')) return undefined;
      return (await jobs()).every(({ state }) => state === 'done') || undefined;
    });
  const jobs = async () =>
    (await fleet.client.call(listJobs, { query: { limit: 100 } })).items.filter(
      (job) => job.kind === 'host-renew',
    );

  it('1. shows when each certificate is renewed and why then, all hosts at times of their own', async () => {
    const { items } = await fleet.client.call(listCertificates, { query: {} });
    const times = new Set<number>();
    for (const { serialNumber, host, issuedAt, notAfter, service } of items) {
      if (host === null) continue;
      const { renewal } = await fleet.client.call(getCertificate, { params: { serial: serialNumber } });
      assert.ok(renewal !== null, `${service} of ${host}`);
      const lifetime = notAfter - issuedAt;
      assert.ok(renewal.at >= issuedAt + lifetime / 2 - 1000 && renewal.at <= issuedAt + lifetime * 0.75);
      assert.match(renewal.explanation.join('\n'), /half of it is over .*\njitter: .* by the serial number/);
      times.add(renewal.at);
    }
    assert.equal(times.size, items.filter(({ host }) => host !== null).length);
  });

  it('2. renews one by name with a new key, VNC of a running VM served anew, and refuses one that nobody serves', async () => {
    const before = await serialOf('host-a', 'vnc');
    const vms = await qemuProcesses(a);
    const old = await fleet.client.call(getCertificate, { params: { serial: before } });
    await fleet.finished(await fleet.client.call(renewCertificate, { params: { serial: before } }));
    const now = await fleet.client.call(getCertificate, {
      params: { serial: await serialOf('host-a', 'vnc') },
    });
    assert.notEqual(now.pin, old.pin);
    assert.equal((await fleet.client.call(getCertificate, { params: { serial: before } })).renewal, null);
    const { observed } = await fleet.show('host-a');
    const vnc = observed?.credentials.find((one) => one.service === 'vnc');
    assert.ok(vnc?.proofs.some((proof) => proof.target.includes('guest') && proof.servedPin === now.pin));
    assert.deepEqual(await qemuProcesses(a), vms);
    await assert.rejects(fleet.client.call(renewCertificate, { params: { serial: before } }), (error) =>
      isTrustError(error, 'certificate.not_served'),
    );
  });

  it('3. renews at once what would be made differently now, on the host that it concerns alone', async () => {
    const [ofA, ofB] = [await serialOf('host-a', 'libvirt'), await serialOf('host-b', 'libvirt')];
    await set('key.algorithm', 'ecdsa-p384', 'host-a');
    await renewed('host-a', 'libvirt', ofA);
    const served = new X509Certificate(await a.readFile('/etc/pki/libvirt/servercert.pem'));
    assert.equal(served.publicKey.asymmetricKeyDetails?.namedCurve, 'secp384r1');
    assert.equal(await serialOf('host-b', 'libvirt'), ofB);
  });

  it('4. holds everything back while frozen, but what is asked for by name, and goes on after', async () => {
    const { frozen, by } = await fleet.client.call(putFreeze, { body: { frozen: true, reason: 'audit' } });
    assert.deepEqual([frozen, /^token:/.test(by ?? '')], [true, true]);
    const [before, count] = [await serialOf('host-b', 'migration'), (await jobs()).length];
    await set('certificate.lifetime', '90d', 'host-b');
    const held = await until('see it held', PATIENCE, async () =>
      (await renewals('host-b')).find((one) => one.service === 'migration' && one.state === 'held'),
    );
    assert.match(held.plan.explanation.join('\n'), /due at once: its lifetime is 90 d now, not 180 d/);
    assert.match(held.plan.explanation.join('\n'), /held: frozen by token:.*: audit/);
    await fleet.finished(
      await fleet.client.call(renewCertificate, { params: { serial: await serialOf('host-b', 'vnc') } }),
    );
    assert.equal((await jobs()).length, count + 1);
    assert.equal(await serialOf('host-b', 'migration'), before);
    await fleet.stopManager();
    await fleet.startManager();
    assert.equal((await fleet.client.call(getFreeze, {})).frozen, true);
    await fleet.client.call(putFreeze, { body: { frozen: false } });
    await renewed('host-b', 'migration', before);
  });

  it('5. waits for a maintenance window', async () => {
    const before = await serialOf('host-b', 'libvirt');
    const at = new Date(clock.now() + 3 * DAY);
    const day = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'][at.getUTCDay()];
    await set('renewal.window', `${day} 02:00-05:00 UTC`, 'host-b');
    await set('certificate.lifetime', '80d', 'host-b');
    const [plan] = await until('see the plan', PATIENCE, async () => {
      const items = (await renewals('host-b')).filter((one) => one.service === 'libvirt');
      return items[0]?.plan.explanation.join().includes('80 d now') ? items : undefined;
    });
    assert.equal(plan?.state, 'planned');
    assert.equal(new Date(plan?.plan.at ?? 0).getUTCHours(), 2);
    assert.match(plan?.plan.explanation.join('\n') ?? '', /maintenance window .* 02:00-05:00 UTC: /);
    assert.equal(await serialOf('host-b', 'libvirt'), before);
    await set('renewal.window', null, 'host-b');
    await renewed('host-b', 'libvirt', before);
  });

  it('6. lets a host that is away wait, and renews it once it is back', async () => {
    const before = await serialOf('host-a', 'libvirt');
    await a.cutCable();
    await until('see it gone', PATIENCE, async () =>
      (await fleet.show('host-a')).channel === 'down' ? true : undefined,
    );
    await set('key.algorithm', 'ecdsa-p256', 'host-a');
    await until('see it held', PATIENCE, async () =>
      (await renewals('host-a')).some((one) => one.plan.explanation.join().includes('the host is away'))
        ? true
        : undefined,
    );
    await a.plugCable();
    await renewed('host-a', 'libvirt', before);
    assert.ok(clock.now() - systemClock.now() < MINUTE);
  });
});
