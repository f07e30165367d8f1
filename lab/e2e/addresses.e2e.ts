import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { listAlarms } from '@virt-trust/contract/manager/alarm-operations.ts';
import {
  getAuthority,
  getCertificate,
  listCertificates,
} from '@virt-trust/contract/manager/certificate-operations.ts';
import { listInterfaces, setInterface } from '@virt-trust/contract/manager/interface-operations.ts';
import { listJobs } from '@virt-trust/contract/manager/job-operations.ts';
import { renewCertificate } from '@virt-trust/contract/manager/lifecycle-operations.ts';
import { putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import type { SetInterface } from '@virt-trust/contract/model/interface.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { canBootLab } from '../src/capability.ts';
import { run } from '../src/command.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { startVm } from '../src/vm.ts';
import { eventsOn } from './agent-sight.ts';
import { ConsoleSession } from './console-session.ts';
import { Fleet } from './fleet.ts';
import { type ServedNames, settledNames, untilNames, untilSettled } from './served-names.ts';
import { type Place, servedAt } from './viewer.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;
const PATIENCE = 120_000;
const HOSTS = ['host-a', 'host-b'];
const DISPLAY: readonly Service[] = ['vnc', 'spice'];
const OTHERS: readonly Service[] = ['libvirt', 'migration'];
const CHANGES = 200;

describe('addresses that come, go and move: certificates follow, consoles stay', { skip }, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;
  let ca: string;
  /** An address of the display network that neither host has at first. */
  let added: string;
  let session: ConsoleSession;

  before(async () => {
    fleet = await Fleet.up({ lab: `e2e-addr-${process.pid}`, hosts: HOSTS });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
    added = a.on('display').address.replace(/\d+$/, '77');
    await set('role.migration', ['eth1']);
    await set('alarm.clear_after', '1s');
    await set('role.display', fleet.lab.rangesOf('display'));
    await Promise.all(HOSTS.map((name) => fleet.add(name)));
    ca = (await fleet.client.call(getAuthority, { params: { name: 'console' } })).bundle;
    await startVm(a, { name: 'guest', vncListen: '::', spiceListen: '::' });
    await startVm(b, { name: 'other', vncListen: '::', spiceListen: '::' });
    session = await ConsoleSession.open({ address: a.on('display').address, port: 5900, ca });
  });
  after(async () => {
    session?.[Symbol.dispose]();
    await fleet?.[Symbol.asyncDispose]();
  });

  const set = (setting: string, value: string | string[]) =>
    fleet.client.call(putSetting, { params: { setting }, query: {}, body: { value } });
  const own = (host: Host) => [host.on('display').address, host.on('display').address6];
  const vnc = (address: string, name = address): Place => ({
    protocol: 'vencrypt',
    address,
    port: 5900,
    name,
    ca,
  });
  const address = (host: Host, ...words: string[]) => host.run(['ip', 'addr', ...words]);
  const serials = async () =>
    (await fleet.client.call(listCertificates, { query: {} })).items.map((one) => one.serialNumber);
  const alarmsOf = async (host: string) =>
    (await fleet.client.call(listAlarms, { query: { host } })).items
      .filter(({ state, kind }) => state !== 'cleared' && kind.startsWith('address-'))
      .map(({ kind, message }) => `${kind} ${message}`);
  const revocationOf = async (serial: string) =>
    (await fleet.client.call(getCertificate, { params: { serial } })).revocation;
  const say = async (host: string, card: string, body: SetInterface) =>
    fleet.finished(await fleet.client.call(setInterface, { params: { name: host, interface: card }, body }));
  const all = (services: readonly Service[], host = 'host-a'): Promise<ServedNames[]> =>
    Promise.all(services.map((service) => untilSettled(fleet, host, service)));
  const follow = (host: string, names: readonly string[]) =>
    Promise.all(DISPLAY.map((service) => untilNames(fleet, host, service, names)));

  it('1. certifies an added address and proves it on VNC, the console open throughout', async (t) => {
    const [before, others, issued] = [await all(DISPLAY), await all(OTHERS), await serials()];
    const began = Date.now();
    await address(a, 'add', `${added}/24`, 'dev', 'eth2');
    const [now] = await follow('host-a', [...own(a), added]);
    const { names, serialNumber } = await servedAt(vnc(added));
    t.diagnostic(`from ip addr add to a proven handshake: ${Date.now() - began} ms; ${await account(began)}`);
    assert.equal(serialNumber, now?.serialNumber.replace(/^0+/, ''));
    assert.ok(names.includes(added));
    await session.answers();
    // Nothing else was touched, and what was replaced is good for what it says.
    assert.deepEqual(await all(OTHERS), others);
    assert.equal((await serials()).length, issued.length + DISPLAY.length);
    for (const one of before) assert.equal(await revocationOf(one.serialNumber), null);
  });

  /** Where the time went, by the agent's events and the job's steps. */
  async function account(began: number): Promise<string> {
    const event = (await eventsOn(a)).find((one) => one.kind === 'network.changed' && one.at >= began);
    const { items } = await fleet.client.call(listJobs, { query: { limit: 20 } });
    const job = items.find((one) => one.kind === 'host-provision' && one.createdAt >= began);
    const steps = job?.steps.map(
      (step) => `${step.name} ${(step.finishedAt ?? Date.now()) - step.startedAt}`,
    );
    const at = (time: number | undefined) => (time === undefined ? 'unseen' : `${time - began} ms`);
    return `event at ${at(event?.at)}, job at ${at(job?.createdAt)}: ${steps?.join(', ')}`;
  }

  it('2. lists the SPICE server that runs on with the former certificate, and the next VM has the new one', async () => {
    const spice = await until('see SPICE of guest listed', PATIENCE, async () => {
      const { observed } = await fleet.show('host-a');
      return observed?.served.find((one) => one.vm === 'guest' && one.state === 'needs-restart');
    });
    assert.equal(spice.service, 'spice');
    assert.match(spice.action, /restart|migrat/i);
    await startVm(a, { name: 'later', spiceListen: '::' });
    const xml = await a.run(['virsh', '--connect', 'qemu:///system', 'dumpxml', 'later']);
    const port = Number(/tlsPort='(\d+)'/.exec(xml)?.[1]);
    await servedAt({ protocol: 'tls', address: added, port, ca });
    await a.run(['virsh', '--connect', 'qemu:///system', 'destroy', 'later']);
  });

  it('3. revokes the former certificate of an address that went, once its successor is proven', async () => {
    const before = await all(DISPLAY);
    await address(a, 'del', `${added}/24`, 'dev', 'eth2');
    const after = await follow('host-a', own(a));
    for (const [index, { serialNumber }] of before.entries()) {
      const revocation = await until(`see ${serialNumber} revoked`, PATIENCE, async () => {
        return (await revocationOf(serialNumber)) ?? undefined;
      });
      assert.equal(revocation.reason, 'affiliationChanged');
      const { issuedAt } = await fleet.client.call(getCertificate, {
        params: { serial: after[index]?.serialNumber ?? '' },
      });
      assert.ok(revocation.at > issuedAt);
      await until(`see ${serialNumber} on the CRL of host-b`, PATIENCE, async () => {
        const argv = ['certtool', '--crl-info', '--infile', '/var/lib/virt-trust/services/vnc/crl.pem'];
        return (await b.exec(argv)).stdout.toLowerCase().includes(serialNumber) || undefined;
      });
    }
    await session.answers();
  });

  it('4. refuses an address that nobody said may be its own, and says so', async () => {
    const before = await all(OTHERS);
    await address(a, 'add', '192.0.2.77/24', 'dev', 'eth1');
    const refused = await until('see it refused', PATIENCE, async () => {
      const { items } = await fleet.client.call(listInterfaces, { params: { name: 'host-a' } });
      return items.find(({ name }) => name === 'eth1')?.refused[0];
    });
    assert.deepEqual([refused.name, refused.rule], ['192.0.2.77', 'interface.outside_subnets']);
    await until('see the alarm', PATIENCE, async () =>
      (await alarmsOf('host-a')).find(
        (one) => one.startsWith('address-refused ') && one.includes('192.0.2.77'),
      ),
    );
    await address(a, 'del', '192.0.2.77/24', 'dev', 'eth1');
    await until('see the alarm cleared', PATIENCE, async () =>
      (await alarmsOf('host-a')).length === 0 ? true : undefined,
    );
    assert.deepEqual(await all(OTHERS), before);
  });

  it('5. keeps an address for who has it, and gives it to the other once it is let go', async () => {
    await address(a, 'add', `${added}/24`, 'dev', 'eth2');
    await follow('host-a', [...own(a), added]);
    const newcomer = await all(DISPLAY, 'host-b');
    await address(b, 'add', `${added}/24`, 'dev', 'eth2');
    await until('see the conflict', PATIENCE, async () =>
      (await alarmsOf('host-b')).find((one) => one.startsWith('address-conflict ') && one.includes(added)),
    );
    const { items } = await fleet.client.call(listInterfaces, { params: { name: 'host-b' } });
    const refused = items.find(({ name }) => name === 'eth2')?.refused[0];
    assert.deepEqual([refused?.name, refused?.rule], [added, 'interface.address_conflict']);
    assert.match(refused?.reason ?? '', /host-a/);
    assert.deepEqual(await all(DISPLAY, 'host-b'), newcomer);
    const serial = (await untilSettled(fleet, 'host-a', 'vnc')).serialNumber;
    await fleet.finished(await fleet.client.call(renewCertificate, { params: { serial } }));
    const renewed = await until('see VNC of host-a renewed', PATIENCE, async () => {
      const now = await settledNames(fleet, 'host-a', 'vnc');
      return now?.serialNumber === serial ? undefined : now;
    });
    assert.deepEqual(renewed.names, [...own(a), added].sort());

    await address(a, 'del', `${added}/24`, 'dev', 'eth2');
    await follow('host-a', own(a));
    await follow('host-b', [...own(b), added]);
    // The machine remembers whose card had it.
    await run(['ip', 'neighbour', 'flush', 'to', added]);
    await servedAt(vnc(added));
    await until('see the alarm cleared', PATIENCE, async () =>
      (await alarmsOf('host-b')).length === 0 ? true : undefined,
    );
    await session.answers();
  });

  it('6. certifies a name of the display interface, by which a client verifies it', async () => {
    const name = 'display.host-a';
    await assert.rejects(servedAt(vnc(own(a)[0] ?? '', name)), { code: 'ERR_TLS_CERT_ALTNAME_INVALID' });
    await say('host-a', 'eth2', { dns: [name] });
    await follow('host-a', [...own(a), name]);
    for (const one of own(a)) await servedAt(vnc(one, name));
    await say('host-a', 'eth2', { dns: [] });
    await follow('host-a', own(a));
    await session.answers();
  });

  it('7. leaves privacy addresses out', async () => {
    const issued = await serials();
    const prefix = own(a)[1]?.replace(/::.*$/, '') ?? '';
    const allow = 'echo 2 >/proc/sys/net/ipv6/conf/eth2/use_tempaddr';
    await run(['ip', 'netns', 'exec', a.plan.namespace, 'sh', '-c', allow]);
    const stable = `${prefix}:0:0:0:a`;
    await address(a, 'add', `${stable}/64`, 'dev', 'eth2', 'nodad', 'mngtmpaddr');
    const canonical = `${prefix}::a`;
    await follow('host-a', [...own(a), canonical]);
    const interfaces = (await fleet.show('host-a')).observed?.network?.interfaces;
    const temporary = interfaces?.flatMap((one) => one.addresses).filter((one) => one.temporary) ?? [];
    assert.ok(temporary.length > 0, 'the kernel made no temporary address');
    assert.ok(temporary.every(({ leftOut }) => leftOut !== null));
    assert.equal((await serials()).length, issued.length + DISPLAY.length);
    await address(a, 'del', `${stable}/64`, 'dev', 'eth2');
    await follow('host-a', own(a));
  });

  it(`8. makes no storm of certificates of ${CHANGES} changes in a row`, async (t) => {
    const issued = await serials();
    const [flapping, last] = ['88', '99'].map((octet) => added.replace(/\d+$/, octet));
    const twice = `ip addr add ${flapping}/24 dev eth2; ip addr del ${flapping}/24 dev eth2`;
    await b.run(['sh', '-ec', `for i in $(seq ${CHANGES / 2}); do ${twice}; done`]);
    await address(b, 'add', `${last}/24`, 'dev', 'eth2');
    const names = [...own(b), added, last ?? ''];
    // What flapped is believed again once it was quiet for a while.
    await Promise.all(DISPLAY.map((service) => untilNames(fleet, 'host-b', service, names, 6 * PATIENCE)));
    const made = (await serials()).length - issued.length;
    t.diagnostic(`${CHANGES} changes made ${made} certificates`);
    assert.ok(made <= 4 * DISPLAY.length, `${made} certificates`);
    await session.answers();
  });
});
