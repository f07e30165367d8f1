import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { provisionHost } from '@virt-trust/contract/manager/host-operations.ts';
import { putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import { canBootLab } from '../src/capability.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { qemuProcesses, startVm } from '../src/vm.ts';
import { eventsOn, observedOn, untilObserved, untilServed } from './agent-sight.ts';
import { Fleet } from './fleet.ts';
import { RESTART_LIBVIRTD } from './restart-libvirtd.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

const AGENT = 'virt-trust-agent.service';

/** Makes a set of somebody else's in /root/other: an authority, a certificate of it for the host, its key. */
const MAKE_OTHER = `set -e
umask 022; mkdir -p /root/other; cd /root/other
printf 'organization=O\\ncn=Other\\nca\\ncert_signing_key\\nexpiration_days=30\\n' >ca.info
printf 'organization=O\\ncn=other\\ndns_name=host-a\\ntls_www_server\\nsigning_key\\nencryption_key\\nexpiration_days=30\\n' >leaf.info
for name in ca leaf; do certtool --generate-privkey --bits 2048 --outfile $name.key 2>/dev/null; done
certtool --generate-self-signed --load-privkey ca.key --template ca.info --outfile ca.pem 2>/dev/null
certtool --generate-certificate --load-privkey leaf.key --load-ca-certificate ca.pem --load-ca-privkey ca.key --template leaf.info --outfile leaf.pem 2>/dev/null`;

/** While the agent is away: a daemon loads the other set, and the files are put back as they were, whatever comes of it. */
function loadOther(names: readonly [ca: string, certificate: string, key: string], reload: string): string {
  const [ca, certificate, key] = names;
  return `set -e
systemctl stop ${AGENT}
back() {
  for file in ${ca} ${certificate} ${key}; do
    file=$(readlink -f "$file"); if test -e "$file.kept"; then mv "$file.kept" "$file"; fi
  done
  systemctl start ${AGENT}
}
trap back EXIT
for pair in ca.pem:${ca} leaf.pem:${certificate} leaf.key:${key}; do
  file=$(readlink -f "\${pair#*:}"); cp -p "$file" "$file.kept"; cat /root/other/"\${pair%%:*}" >"$file"
done
${reload}`;
}

/** Puts a file in the place of what is there, at once: where there is nothing in between, the agent has its link back. */
const putInPlace = (file: string, path: string) =>
  `cp /root/other/${file} /root/other/now.pem && mv -f /root/other/now.pem ${path}`;

describe('what is served drifts from what should be', { skip }, () => {
  let fleet: Fleet;
  let a: Host;

  const sh = (script: string) => a.run(['sh', '-c', script]);
  const pinOf = async (service: string) =>
    (await observedOn(a)).credentials.find((one) => one.service === service)?.pin;
  const eventsSince = async (sequence: number) =>
    (await eventsOn(a))
      .filter((event) => event.sequence > sequence)
      .map(({ kind, subject }) => `${kind} ${subject}`);
  const lastEvent = async () => (await eventsOn(a)).at(-1)?.sequence ?? 0;

  before(async () => {
    fleet = await Fleet.up({ lab: `drift-${process.pid}`, hosts: ['host-a'] });
    a = fleet.host('host-a');
    await fleet.client.call(putSetting, {
      params: { setting: 'probe.interval_seconds' },
      query: {},
      body: { value: 2 },
    });
    await fleet.add('host-a');
    await sh(MAKE_OTHER);
    await startVm(a, { name: 'guest', vncListen: '0.0.0.0' });
    await startVm(a, { name: 'viewed', spiceListen: '0.0.0.0' });
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  it('1. is seen at every endpoint: libvirt on each address, VNC and SPICE of each VM, the files of migration', async () => {
    for (const vm of ['VM guest', 'VM viewed']) await untilServed(a, vm, 'as-desired');
    const served = await untilObserved(a, 'see all of it as it should be', (observed) =>
      observed.served.every(({ state }) => state === 'as-desired') ? observed.served : undefined,
    );
    for (const target of [`${a.address}:16514`, `[${a.address6}]:16514`, '/etc/pki/libvirt-migrate'])
      assert.ok(
        served.some((one) => one.target === target),
        JSON.stringify(served.map((one) => one.target)),
      );
  });

  it('2. a file changed by hand and a link replaced are put back, and no VM notices', async () => {
    const vms = await qemuProcesses(a);
    const began = await lastEvent();
    const path = '/etc/pki/libvirt-migrate/server-cert.pem';
    const before = await a.readFile(path);
    await sh(`echo broken >${path}`);
    await until('see the file put back', 120_000, async () =>
      (await a.exec(['cat', path])).stdout === before ? true : undefined,
    );
    await sh(putInPlace('ca.pem', '/etc/pki/CA/cacert.pem'));
    await until('see the link put back', 120_000, async () =>
      (await a.exec(['test', '-L', '/etc/pki/CA/cacert.pem'])).code === 0 ? true : undefined,
    );
    await until('read of both repairs', 120_000, async () =>
      (await eventsSince(began)).filter((event) => event.startsWith('repair.done')).length >= 2
        ? true
        : undefined,
    );
    assert.deepEqual(await qemuProcesses(a), vms);
  });

  it('3. a libvirtd that loaded something else is told to load what is there', async () => {
    const began = await lastEvent();
    await sh(
      loadOther(
        [
          '/etc/pki/CA/cacert.pem',
          '/etc/pki/libvirt/servercert.pem',
          '/etc/pki/libvirt/private/serverkey.pem',
        ],
        // Not by server-update-tls: it frees what a handshake under way still uses, such as one of the manager's looks.
        `${RESTART_LIBVIRTD} && virsh -c qemu:///system version >/dev/null`,
      ),
    );
    await until('read that libvirt serves what it should again', 120_000, async () =>
      (await eventsSince(began)).includes(`served.as_desired libvirt at ${a.address}:16514`)
        ? true
        : undefined,
    );
    const told = await eventsSince(began);
    assert.ok(told.includes(`served.drifted libvirt at ${a.address}:16514`), told.join('\n'));
    const served = await untilServed(a, `${a.address}:16514`, 'as-desired');
    assert.equal(served.servedPin, await pinOf('libvirt'));
  });

  it("4. a VM's VNC that loaded something else is told to load what is there, the VM running on", async () => {
    const vms = await qemuProcesses(a);
    const began = await lastEvent();
    const directory = '/etc/pki/libvirt-vnc';
    await sh(
      loadOther(
        [`${directory}/ca-cert.pem`, `${directory}/server-cert.pem`, `${directory}/server-key.pem`],
        `virsh qemu-monitor-command guest '{"execute":"display-reload","arguments":{"type":"vnc","tls-certs":true}}'`,
      ),
    );
    await until('read that VNC serves what it should again', 120_000, async () =>
      (await eventsSince(began)).some((event) => event.startsWith('served.as_desired vnc at VM guest'))
        ? true
        : undefined,
    );
    assert.equal((await untilServed(a, 'VM guest', 'as-desired')).servedPin, await pinOf('vnc'));
    assert.deepEqual(await qemuProcesses(a), vms);
  });

  it('5. whoever changes a path back after two repairs has won, and it is said', async () => {
    // Counting begins anew with an application.
    await fleet.finished(
      await fleet.client.call(provisionHost, { params: { name: 'host-a' }, body: { renew: true } }),
    );
    const began = await lastEvent();
    const path = '/etc/pki/libvirt/servercert.pem';
    const change = `if [ -L ${path} ]; then ${putInPlace('leaf.pem', path)}; fi`;
    const tool = await a.start([
      'sh',
      '-c',
      `while [ ! -e /root/other/enough ]; do ${change}; sleep 0.2; done`,
    ]);
    const ended = once(tool, 'close');
    try {
      const contested = await untilServed(a, path, 'contested');
      assert.match(contested.action, /find out what changes it/);
      assert.ok((await observedOn(a)).pending.some(({ what }) => what === path));
      const told = (await eventsSince(began)).filter((event) => /^repair\.\S+ \//.test(event));
      assert.deepEqual(told, [`repair.done ${path}`, `repair.done ${path}`, `repair.left_alone ${path}`]);
    } finally {
      await sh('touch /root/other/enough');
      await ended;
    }
    await fleet.finished(
      await fleet.client.call(provisionHost, { params: { name: 'host-a' }, body: { renew: true } }),
    );
    await a.run(['test', '-L', path]);
    await untilObserved(a, 'see nothing contested', ({ served, pending }) =>
      pending.length === 0 && served.every(({ state }) => state !== 'contested') ? true : undefined,
    );
  });

  it('6. a VM whose SPICE loaded the former certificate is listed with what to do, and left alone', async () => {
    const seen = await untilServed(a, 'VM viewed', 'needs-restart');
    assert.equal(seen.action, 'restart or migrate the VM');
    assert.notEqual(seen.servedPin, seen.expectedPin);
    assert.equal((await untilServed(a, 'VM guest', 'as-desired')).servedPin, await pinOf('vnc'));
    await a.run(['virsh', 'destroy', 'viewed']);
    await startVm(a, { name: 'viewed', spiceListen: '0.0.0.0' });
    assert.equal((await untilServed(a, 'VM viewed', 'as-desired')).servedPin, await pinOf('spice'));
  });

  it('7. a libvirtd that a killed reload left closed to clients is opened', async () => {
    await sh(`systemctl kill --signal KILL ${AGENT}
virt-admin -c libvirtd:///system server-clients-set libvirtd --max-clients 0 --max-unauth-clients 0`);
    await a.run(['systemctl', 'restart', AGENT]);
    await a.run(['virsh', '-c', 'qemu:///system', 'list'], { timeout: 120_000 });
    assert.match(
      await a.run(['virt-admin', '-c', 'libvirtd:///system', 'server-clients-info', 'libvirtd']),
      /nclients_max\s*: 5000/,
    );
    await untilServed(a, `${a.address}:16514`, 'as-desired');
  });
});
