import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createMigrationJob } from '@virt-trust/contract/manager/migration-operations.ts';
import { canBootLab } from '../src/capability.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { runningVms, startVm } from '../src/vm.ts';
import { Fleet } from './fleet.ts';
import { toldBy } from './told.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

/** Lets in what a host needs to be reached for its administration, and nothing else. */
const RULES = `table inet filter {
  chain input {
    type filter hook input priority 0; policy drop;
    iif lo accept
    ct state established,related accept
    meta l4proto { icmp, icmpv6 } accept
    tcp dport 22 accept comment "ssh"
  }
}
`;

describe('hosts whose firewall drops what it does not know', { skip }, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;
  let asFound: string;
  /** With what virt-trust keeps open, and nothing of a migration. */
  let settled: string;

  const rulesOf = (host: Host) => host.run(['nft', 'list', 'ruleset']);
  const untilRules = (host: Host, rules: string) =>
    until(`see the rules of ${host.name} as they were`, 120_000, async () =>
      (await rulesOf(host)) === rules ? true : undefined,
    );
  const load = async (host: Host) => {
    await host.writeFile('/etc/nftables.conf', `flush ruleset\n${RULES}`);
    await host.run(['nft', '-f', '/etc/nftables.conf']);
  };
  const migrate = async (from: string, to: string, vm = 'guest') =>
    fleet.finished(await fleet.client.call(createMigrationJob, { body: { vm, from, to } }));

  before(async () => {
    fleet = await Fleet.up({ lab: `fail-wall-${process.pid}`, hosts: ['host-a', 'host-b'] });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
    await Promise.all([load(a), load(b)]);
    asFound = await rulesOf(a);
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  it('1. are opened for libvirt and migrations, and for the channel from the manager alone', async () => {
    await Promise.all([fleet.add('host-a'), fleet.add('host-b')]);
    for (const host of [a, b]) {
      const rules = await rulesOf(host);
      const opened = rules.split('\n').filter((line) => line.includes('virt-trust:'));
      const lines = opened.map((line) => line.trim()).toSorted();
      assert.ok(
        lines.some((line) => line === 'tcp dport 16514 accept comment "virt-trust:libvirt-tls"'),
        rules,
      );
      assert.ok(
        lines.some((line) => line === 'tcp dport 49152-49215 accept comment "virt-trust:migration"'),
        rules,
      );
      const channel = lines.filter((line) => line.includes('16515'));
      assert.ok(channel.length > 0);
      for (const line of channel) assert.ok(line.startsWith(`ip saddr ${fleet.lab.machineAddress} `), line);
      assert.equal((await fleet.show(host.name)).inventory?.firewall, 'nftables-drop');
    }
    settled = await rulesOf(b);
  });

  it('2. migrate a VM both ways', async () => {
    await startVm(a, { name: 'guest' });
    await migrate('host-a', 'host-b');
    assert.deepEqual(await runningVms(b), ['guest']);
    await migrate('host-b', 'host-a');
    assert.deepEqual(await runningVms(a), ['guest']);
  });

  it("3. take a VM's name for nothing but a name", async () => {
    for (const vm of ['$(touch canary)', 'x;reboot', 'é 漢', "a'b"]) {
      const told = await toldBy(migrate('host-a', 'host-b', vm));
      assert.ok(told.message.includes(vm), told.message);
      assert.match(told.message, /host-a to host-b: failed to get domain/, told.message);
      assert.match(told.hint, /does not run on the source host/, JSON.stringify(told));
    }
    // Agent and daemons remove files of theirs meanwhile.
    const find = ['find', '/', '-ignore_readdir_race', '-xdev', '-name', 'canary*'];
    assert.equal((await a.run([...find, '-newer', '/run/guest.xml'])).trim(), '');
  });

  it('4. get rules back that somebody took away', async () => {
    await untilRules(b, settled);
    const table = async () =>
      /^table inet filter \{ # handle \d+$/m.exec(await b.run(['nft', '-a', 'list', 'ruleset']))?.[0];
    const before = await table();
    await b.run(['nft', '-f', '/etc/nftables.conf']);
    // By itself, with nobody who asks for it, and perhaps before anybody looks.
    await untilRules(b, settled);
    const now = await table();
    assert.ok(now !== undefined && now !== before, `${before} and ${now}: nobody took the rules away`);
  });

  it('5. have none of the rules any more once they are removed', async () => {
    await Promise.all([fleet.remove('host-a'), fleet.remove('host-b')]);
    for (const host of [a, b]) await untilRules(host, asFound);
  });
});
