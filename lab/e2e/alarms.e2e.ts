import assert from 'node:assert/strict';
import { createHmac, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { DAY, instant } from '@virt-trust/base/instant.ts';
import {
  acknowledgeAlarm,
  getAlarm,
  listAlarms,
  putWebhook,
  testWebhook,
} from '@virt-trust/contract/manager/alarm-operations.ts';
import { listHosts } from '@virt-trust/contract/manager/host-operations.ts';
import { putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import type { Alarm, AlarmKind } from '@virt-trust/contract/model/alarm.ts';
import { canBootLab } from '../src/capability.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { Fleet } from './fleet.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

const LIBVIRTD = [
  'libvirtd.service',
  'libvirtd.socket',
  'libvirtd-ro.socket',
  'libvirtd-admin.socket',
  'libvirtd-tls.socket',
];
const SETTINGS = {
  'probe.interval_seconds': 2,
  // Longer than a look may take, so that one that failed on a busy machine is followed by another first.
  'alarm.drift_after': '10s',
  'alarm.clear_after': '2s',
  'alarm.unreachable_after': '10s',
};

interface Delivery {
  readonly event: string;
  readonly alarm: Alarm | null;
}

/** A receiver of webhooks as its owner would write it: it checks the signature, and takes each delivery once. */
class Receiver {
  readonly deliveries: Delivery[] = [];
  readonly #taken = new Set<string>();
  readonly #server: Server;
  secret = '';

  constructor() {
    this.#server = createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const body = Buffer.concat(chunks);
      const header = String(request.headers['virt-trust-signature']);
      const [, seconds = '', mac = ''] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(header) ?? [];
      const expected = createHmac('sha256', this.secret).update(`${seconds}.`).update(body).digest();
      if (mac === '' || !timingSafeEqual(Buffer.from(mac, 'hex'), expected)) {
        response.writeHead(403).end();
        return;
      }
      const id = String(request.headers['virt-trust-delivery']);
      if (!this.#taken.has(id)) this.deliveries.push(JSON.parse(body.toString('utf8')) as Delivery);
      this.#taken.add(id);
      response.writeHead(204).end();
    });
  }

  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  /** The first delivery of an alarm of a host that came after `from` others. */
  until(event: string, kind: AlarmKind, host: string, from = 0): Promise<Alarm> {
    return until(
      `see ${event} of ${kind} on ${host} delivered`,
      180_000,
      () =>
        this.deliveries
          .slice(from)
          .find((one) => one.event === event && one.alarm?.kind === kind && one.alarm.host === host)?.alarm ??
        undefined,
    );
  }
}

describe('alarms: raised, told, seen to and cleared', { skip }, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;
  const receiver = new Receiver();

  const openOf = async (host: string) =>
    (await fleet.client.call(listAlarms, { query: { host } })).items.map(
      (alarm) => `${alarm.state} ${alarm.severity} ${alarm.kind}: ${alarm.subject}`,
    );

  before(async () => {
    fleet = await Fleet.up({ lab: `alarms-${process.pid}`, hosts: ['host-a', 'host-b'] });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
    for (const [setting, value] of Object.entries(SETTINGS))
      await fleet.client.call(putSetting, { params: { setting }, query: {}, body: { value } });
    const set = await fleet.client.call(putWebhook, { body: { url: await receiver.listen() } });
    receiver.secret = set.secret ?? '';
    await Promise.all([fleet.add('host-a'), fleet.add('host-b')]);
  });
  after(async () => {
    try {
      await fleet?.[Symbol.asyncDispose]();
    } finally {
      receiver.close();
    }
  });

  it('1. of hosts where all is well says nothing, and a test of the webhook comes through signed', async () => {
    const tested = await fleet.client.call(testWebhook, {});
    assert.deepEqual(tested, { delivered: true, answer: 'HTTP 204 No Content' });
    assert.equal(receiver.deliveries.at(-1)?.event, 'webhook.test');
    for (const host of ['host-a', 'host-b']) assert.deepEqual(await openOf(host), []);
  });

  it('2. a libvirtd that was stopped is an alarm with what to do, told to the webhook and in the list of hosts', async () => {
    await a.run(['systemctl', 'mask', '--runtime', '--now', ...LIBVIRTD]);
    const raised = await receiver.until('alarm.raised', 'drift', 'host-a');
    assert.equal(raised.subject, 'libvirt of host host-a');
    assert.match(raised.message, /16514/);
    assert.match(raised.action, /systemctl|host provision host-a/);
    const { items } = await fleet.client.call(listHosts, {});
    const listed = items.map(({ name, alarms }) => [name, alarms.critical]);
    assert.deepEqual(listed, [
      ['host-a', 1],
      ['host-b', 0],
    ]);
    assert.match(items[0]?.alarms.first ?? '', /does not serve libvirt as it should/);
    const figures = await (
      await fetch(`${fleet.url}/metrics`, { headers: { authorization: `Bearer ${fleet.token}` } })
    ).text();
    assert.match(figures, /^virt_trust_alarms\{kind="drift",severity="critical",state="raised"\} 1$/m);
    assert.match(
      figures,
      /^virt_trust_certificate_not_after_seconds\{host="host-b",service="libvirt"\} \d{10}$/m,
    );
  });

  it('3. once somebody has seen to it it says so, and it is cleared when its cause is gone', async () => {
    const { id } = await receiver.until('alarm.raised', 'drift', 'host-a');
    await fleet.client.call(acknowledgeAlarm, { params: { id } });
    await receiver.until('alarm.acknowledged', 'drift', 'host-a');
    await a.run(['systemctl', 'unmask', '--runtime', ...LIBVIRTD]);
    // Alone, and with all that it takes: a client that comes to another socket first starts the daemon, and then systemd
    // refuses this one.
    await a.run(['systemctl', 'start', 'libvirtd-tls.socket']);
    await a.run(['systemctl', 'start', ...LIBVIRTD.filter((unit) => unit.endsWith('.socket'))]);
    const cleared = await receiver.until('alarm.cleared', 'drift', 'host-a');
    assert.deepEqual(
      [cleared.id, cleared.state, cleared.acknowledgedBy],
      [id, 'cleared', 'token:administrator'],
    );
    await until('see nothing wrong with host-a', 120_000, async () =>
      (await openOf('host-a')).length === 0 ? true : undefined,
    );
  });

  it('4. a host whose cable was pulled is unreachable, and no other; plugged in again it is well by itself', async () => {
    const from = receiver.deliveries.length;
    await b.cutCable();
    const raised = await receiver.until('alarm.raised', 'host-unreachable', 'host-b', from);
    assert.equal(raised.severity, 'critical');
    assert.deepEqual(await openOf('host-a'), []);
    assert.deepEqual(await openOf('host-b'), ['raised critical host-unreachable: host host-b']);
    await b.plugCable();
    await receiver.until('alarm.cleared', 'host-unreachable', 'host-b', from);
    const again = await fleet.client.call(getAlarm, { params: { id: raised.id } });
    assert.equal(again.state, 'cleared');
  });

  it('5. the expired certificates of a host that is down are alarms, after a start of the manager too', async () => {
    // That the host is away may be seen by either manager.
    const from = receiver.deliveries.length;
    await b.cutCable();
    await fleet.stopManager();
    await fleet.startManager({ now: () => instant(Date.now() + 200 * DAY) });
    const expired = await receiver.until('alarm.raised', 'certificate-expiry', 'host-b', from);
    assert.equal(expired.severity, 'critical');
    assert.match(expired.message, /of host host-b .* expired at /);
    assert.match(expired.action, /host-b/);
    await receiver.until('alarm.raised', 'host-unreachable', 'host-b', from);
  });
});
