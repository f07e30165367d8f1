import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { listAudit } from '@virt-trust/contract/manager/audit-operations.ts';
import { getAuthority, getCertificate } from '@virt-trust/contract/manager/certificate-operations.ts';
import { collectHost, provisionHost } from '@virt-trust/contract/manager/host-operations.ts';
import { renameHost, setHostAddress } from '@virt-trust/contract/manager/interface-operations.ts';
import { createMigrationJob } from '@virt-trust/contract/manager/migration-operations.ts';
import { putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import { canBootLab } from '../src/capability.ts';
import { run } from '../src/command.ts';
import type { Host } from '../src/host.ts';
import type { Lab } from '../src/lab.ts';
import { until } from '../src/until.ts';
import { runningVms, startVm } from '../src/vm.ts';
import { eventsOn } from './agent-sight.ts';
import { Fleet } from './fleet.ts';
import { settledNames, untilNames, untilSettled } from './served-names.ts';
import { servedAt } from './viewer.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;
const PATIENCE = 180_000;
const HOSTS = ['host-a', 'host-b'];

/** A host's address of each family. */
interface Addresses {
  readonly v4: string;
  readonly v6: string;
}

/** The management network, and where it moves to: a range of the lab's own block that it does not use. */
function subnetsOf(lab: Lab) {
  const [v4 = '', v6 = ''] = lab.ranges;
  const [a, b, c] = v4.split('.');
  const [p, q, r, last = '0'] = v6.replace('::/64', '').split(':');
  return {
    now: { v4: `${a}.${b}.${c}`, v6: `${p}:${q}:${r}:${last}:` },
    next: {
      v4: `${a}.${b}.${Number(c) + 5}`,
      v6: `${p}:${q}:${r}:${(Number.parseInt(last, 16) + 5).toString(16)}:`,
    },
  };
}

const cidrs = ({ v4, v6 }: Addresses) => [`${v4}.0/24`, `${v6}:/64`];
const at = ({ v4, v6 }: Addresses, host: number): Addresses => ({ v4: `${v4}.${host}`, v6: `${v6}:${host}` });
const both = ({ v4, v6 }: Addresses) => [v4, v6];

describe('a host that is readdressed or renamed: its channel comes back by itself, certificates follow', {
  skip,
}, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;
  let subnets: ReturnType<typeof subnetsOf>;
  const where: Record<string, Addresses> = {};
  let ca: { control: string; console: string };

  before(async () => {
    fleet = await Fleet.up({
      lab: `e2e-move-${process.pid}`,
      hosts: HOSTS,
      announced: true,
      moreRanges: (lab) => cidrs(subnetsOf(lab).next),
    });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
    subnets = subnetsOf(fleet.lab);
    for (const host of [a, b]) {
      const card = host.on('management');
      where[host.name] = { v4: card.address, v6: card.address6 };
      // As every distribution has it: the second address of a subnet outlives the first.
      const keep = 'echo 1 >/proc/sys/net/ipv4/conf/all/promote_secondaries';
      await run(['ip', 'netns', 'exec', host.plan.namespace, 'sh', '-c', keep]);
    }
    await set('interface.allowed_subnets', [...cidrs(subnets.now), ...cidrs(subnets.next)]);
    await set('interface.allowed_domains', ['host-a']);
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  const set = (setting: string, value: string[]) =>
    fleet.client.call(putSetting, { params: { setting }, query: {}, body: { value } });
  const addressesOf = (host: Host) => where[host.name] ?? { v4: '', v6: '' };
  const revocationOf = async (serial: string) =>
    (await fleet.client.call(getCertificate, { params: { serial } })).revocation;
  const audit = async (action: string) =>
    (await fleet.client.call(listAudit, { query: { limit: 200 } })).items.filter(
      (one) => one.action === action,
    );

  /** Replaces all addresses of eth0 at one time. */
  async function replaceAddresses(host: Host, next: Addresses): Promise<void> {
    const before = addressesOf(host);
    const batch = [
      `addr del ${before.v4}/24 dev eth0`,
      `addr del ${before.v6}/64 dev eth0`,
      `addr add ${next.v4}/24 dev eth0`,
      `addr add ${next.v6}/64 dev eth0 nodad`,
    ];
    await run(['ip', '-n', host.plan.namespace, '-batch', '-'], { input: `${batch.join('\n')}\n` });
    where[host.name] = next;
  }

  async function untilUpAt({ name }: Host, addresses: readonly string[], known = name): Promise<string> {
    return until(`see the channel of ${known} at ${addresses.join(' or ')}`, PATIENCE, async () => {
      const { channel, address } = await fleet.show(known);
      return channel === 'up' && addresses.includes(address) ? address : undefined;
    });
  }

  /** Libvirt and VNC verify under each address and name, on the network. */
  async function assertServes(host: Host, names: readonly string[] = []): Promise<void> {
    for (const address of both(addressesOf(host))) {
      for (const name of [address, ...names])
        await servedAt({ protocol: 'tls', address, port: 16514, name, ca: ca.control });
    }
  }

  /** As a site may have it: nothing comes in but what is said, which is VNC here, and what virt-trust opens. */
  async function closeFirewall(host: Host): Promise<void> {
    const rules = [
      'ct state established,related accept',
      'iif lo accept',
      'meta l4proto { icmp, ipv6-icmp } accept',
      'tcp dport 5900 accept',
    ];
    const chain = `chain input {\n type filter hook input priority 0; policy accept\n${rules.join('\n')}\n}`;
    await host.run(['nft', '-f', '-'], { input: `table inet closed {\n${chain}\n}\n` });
    // Of a connection that was there before the kernel followed any, what comes first must not come from outside.
    await fleet.client.call(collectHost, { params: { name: host.name } });
    await host.run(['nft', 'chain inet closed input { policy drop; }']);
  }

  async function assertMigratesBothWays(): Promise<void> {
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      await fleet.finished(
        await fleet.client.call(createMigrationJob, { body: { vm: 'guest', from: from.name, to: to.name } }),
      );
      assert.deepEqual(await runningVms(to), ['guest']);
      const address = addressesOf(to).v4;
      await servedAt({ protocol: 'vencrypt', address, port: 5900, ca: ca.console });
    }
  }

  it('1. adds two hosts, and tells them where to make themselves known', async () => {
    await Promise.all(HOSTS.map((name) => fleet.add(name)));
    const bundle = async (name: string) =>
      (await fleet.client.call(getAuthority, { params: { name } })).bundle;
    ca = { control: await bundle('control'), console: await bundle('console') };
    await startVm(a, { name: 'guest', vncListen: '::' });
    for (const host of [a, b]) {
      assert.equal((await fleet.show(host.name)).address, addressesOf(host).v4);
      await assertServes(host, [host.name]);
    }
    const desired = JSON.parse(await a.readFile('/var/lib/virt-trust/agent/desired-state.json'));
    const { announceTo } = desired.settings;
    for (const machine of both(at(subnets.now, 1)))
      assert.ok(
        announceTo.some((one: { address: string }) => one.address === machine),
        `${machine} is not announced to`,
      );
  });

  it('2. follows an address that is replaced while the channel runs', async (t) => {
    const former = await untilSettled(fleet, 'host-a', 'libvirt');
    const before = addressesOf(a);
    const next = { ...before, v4: `${subnets.now.v4}.77` };
    const began = Date.now();
    const replace = `ip addr add ${next.v4}/24 dev eth0; ip addr del ${before.v4}/24 dev eth0`;
    await a.run(['sh', '-ec', replace]);
    where['host-a'] = next;
    const address = await untilUpAt(a, both(next));
    t.diagnostic(`the channel was up at ${address} after ${Date.now() - began} ms`);
    await untilNames(fleet, 'host-a', 'libvirt', ['host-a', ...both(next)]);
    t.diagnostic(`its certificate was proven under the new address after ${Date.now() - began} ms`);
    await assertServes(a, ['host-a']);
    const revocation = await until(`see ${former.serialNumber} revoked`, PATIENCE, async () => {
      return (await revocationOf(former.serialNumber)) ?? undefined;
    });
    assert.equal(revocation.reason, 'affiliationChanged');
    const [entry] = await audit('host.address');
    assert.deepEqual([entry?.actor, entry?.subject], ['system', 'host-a']);
  });

  it('3. finds a host all of whose addresses were replaced at once, which makes itself known', async (t) => {
    const next = at(subnets.now, 78);
    const began = Date.now();
    await replaceAddresses(a, next);
    const address = await untilUpAt(a, both(next));
    t.diagnostic(`the channel was up at ${address} after ${Date.now() - began} ms`);
    await until('read that it made itself known', PATIENCE, async () =>
      (await eventsOn(a)).find((one) => one.kind === 'channel.announced' && one.at >= began),
    );
    await untilNames(fleet, 'host-a', 'libvirt', ['host-a', ...both(next)]);
    await untilNames(fleet, 'host-a', 'vnc', ['host-a', ...both(next)]);
    await assertServes(a, ['host-a']);
    await assertMigratesBothWays();
  });

  it('4. follows a whole subnet that moves, hosts and manager together, once told from where it will come', async (t) => {
    await closeFirewall(b);
    await set('channel.manager_addresses', both(at(subnets.next, 1)));
    for (const name of HOSTS)
      await fleet.finished(await fleet.client.call(provisionHost, { params: { name }, body: {} }));
    // The agent opens what it opened before in a firewall that came later, and the channel for the manager's new addresses.
    for (const address of both(at(subnets.next, 1)))
      await until(`see the channel open for ${address}`, PATIENCE, async () =>
        (await b.run(['nft', 'list', 'ruleset']))
          .split('\n')
          .some((line) => line.includes('virt-trust:channel') && line.includes(address))
          ? true
          : undefined,
      );
    const { bridge } = fleet.lab.host('host-a').on('management');
    const began = Date.now();
    const [old, machine] = [at(subnets.now, 1), at(subnets.next, 1)];
    const batch = [
      `addr del ${old.v4}/24 dev ${bridge}`,
      `addr del ${old.v6}/64 dev ${bridge}`,
      `addr add ${machine.v4}/24 dev ${bridge}`,
      `addr add ${machine.v6}/64 dev ${bridge} nodad`,
    ];
    await run(['ip', '-batch', '-'], { input: `${batch.join('\n')}\n` });
    for (const [index, host] of [a, b].entries()) await replaceAddresses(host, at(subnets.next, 11 + index));
    for (const host of [a, b]) {
      const address = await untilUpAt(host, both(addressesOf(host)));
      t.diagnostic(`the channel of ${host.name} was up at ${address} after ${Date.now() - began} ms`);
    }
    for (const host of [a, b]) {
      for (const service of ['libvirt', 'migration', 'vnc'] as const)
        await untilNames(fleet, host.name, service, [host.name, ...both(addressesOf(host))]);
      await assertServes(host, [host.name]);
    }
    await assertMigratesBothWays();
    await b.run(['nft', 'delete', 'table', 'inet', 'closed']);
  });

  it('5. follows a host name that is set on the host, and one that the manager gives it', async () => {
    const names = [...both(addressesOf(a)), 'host-a'];
    await a.run(['hostnamectl', 'set-hostname', 'moved.host-a']);
    await untilNames(fleet, 'host-a', 'libvirt', [...names, 'moved.host-a']);
    await assertServes(a, ['host-a', 'moved.host-a']);
    await fleet.client.call(renameHost, { params: { name: 'host-a' }, body: { name: 'renamed.host-a' } });
    const served = await until('see the new name served', PATIENCE, async () => {
      const seen = await settledNames(fleet, 'renamed.host-a', 'libvirt');
      return seen?.names.includes('renamed.host-a') ? seen : undefined;
    });
    assert.ok(served.names.includes('moved.host-a'));
    await assertServes(a, ['renamed.host-a', 'moved.host-a']);
    await untilUpAt(a, both(addressesOf(a)), 'renamed.host-a');
  });

  it('6. reaches a host behind an address of others that is translated to its own, once that is said', async () => {
    const outside = `${subnets.next.v4}.200`;
    // The machine itself is the client here: its own packets to that address go to the host.
    const table = `vtmove${process.pid}`;
    const rules = `table ip ${table} { chain output { type nat hook output priority -100; ip daddr ${outside} dnat to ${addressesOf(b).v4}; }; }`;
    await run(['nft', '-f', '-'], { input: rules });
    try {
      await fleet.finished(
        await fleet.client.call(setHostAddress, { params: { name: 'host-b' }, body: { address: outside } }),
      );
      const served = await untilNames(fleet, 'host-b', 'libvirt', [
        'host-b',
        outside,
        ...both(addressesOf(b)),
      ]);
      const seen = await servedAt({ protocol: 'tls', address: outside, port: 16514, ca: ca.control });
      assert.equal(seen.serialNumber, served.serialNumber.replace(/^0+/, ''));
      assert.equal((await fleet.show('host-b')).address, outside);
    } finally {
      await run(['nft', 'delete', 'table', 'ip', table]);
    }
    await until('see the channel up without the translation', PATIENCE, async () => {
      const { state } = await fleet.client
        .call(collectHost, { params: { name: 'host-b' } })
        .catch(() => ({ state: '' }));
      return state === 'secured' ? true : undefined;
    });
    // What was said stays said.
    assert.equal((await fleet.show('host-b')).address, outside);
  });
});
