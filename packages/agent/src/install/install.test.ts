import assert from 'node:assert/strict';
import { chmod, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { type TestContext, test } from 'node:test';
import type { Instant } from '@virt-trust/base/instant.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { identityOf } from '@virt-trust/channel/fixtures.ts';
import { type RunHostCommand, runHostCommand } from '@virt-trust/check/host/host-command.ts';
import { postRemoval } from '@virt-trust/contract/agent/operations.ts';
import type { InstallOrder } from '@virt-trust/contract/model/enrolment.ts';
import fc from 'fast-check';
import { type RunningAgent, runAgent } from '../agent.ts';
import { localAgentClient } from '../doors/local-client.ts';
import { noEngines, temporaryRoot } from '../fixtures.ts';
import { agentPaths } from '../state/paths.ts';
import { installAgent, parseInstallOrder } from './install.ts';
import { uninstallAgent } from './uninstall.ts';

/** A host below a temporary root whose systemctl starts and stops a real agent in this process. */
async function host(t: TestContext) {
  const root = await temporaryRoot(t);
  const paths = agentPaths(root);
  for (const directory of ['/run/systemd/system', '/etc/systemd/system', '/var/lib', '/usr/local/bin'])
    await mkdir(paths.at(directory), { recursive: true });
  const calls: string[] = [];
  let enabled = false;
  let agent: RunningAgent | undefined;
  let fail: string | undefined;
  const run: RunHostCommand = async (program, args, options) => {
    if (program !== 'systemctl') return await runHostCommand(program, args, options);
    const [verb = ''] = args;
    if (verb !== 'show' && verb !== 'is-enabled') calls.push(verb);
    if (verb === fail) {
      fail = undefined;
      throw new Error(`killed at ${verb}`);
    }
    const answer = (stdout: string) => ({ code: 0, stdout, stderr: '' });
    switch (verb) {
      case 'show':
        return answer(
          `LoadState=loaded\nActiveState=${agent === undefined ? 'inactive' : 'active'}\nMainPID=1\nNeedDaemonReload=no\n`,
        );
      case 'is-enabled':
        return answer(enabled ? 'enabled\n' : 'disabled\n');
      case 'enable':
        enabled = true;
        return answer('');
      case 'disable':
        enabled = false;
        return answer('');
      case 'restart':
        await agent?.close();
        agent = await runAgent({
          root,
          log: silentLog,
          engines: noEngines(),
          run,
          uninstall: () => uninstallAgent({ root, run }),
          channelPort: 0,
        });
        return answer('');
      case 'stop':
        await agent?.close();
        agent = undefined;
        return answer('');
      default:
        return answer('');
    }
  };
  t.after(() => agent?.close());
  return {
    root,
    paths,
    calls,
    run,
    failAt: (verb: string) => {
      fail = verb;
    },
    removed: () => agent?.removed,
  };
}

function order(pin = identityOf('manager').pin): InstallOrder {
  return {
    managers: { epoch: 1, number: 1, pins: [pin] },
    managerAddresses: ['192.0.2.1'],
    channelPort: 16515,
    mode: 'observe',
  };
}

test('an installation answers with keys and inventory, and the second one changes nothing', async (t) => {
  const { root, run, calls } = await host(t);
  const given = order();
  const first = await installAgent(given, { root, run, uid: 0 });
  assert.match(first.identity.current, /^sha256:/);
  assert.ok(first.changed.length > 5);
  assert.ok(first.inventory.interfaces.some(({ name }) => name === 'lo'));
  assert.deepEqual(calls, ['daemon-reload', 'enable', 'restart']);
  const second = await installAgent(given, { root, run, uid: 0 });
  assert.deepEqual(second.changed, []);
  assert.deepEqual(second.identity, first.identity);
  assert.equal(calls.length, 3);
  const third = await installAgent({ ...given, managerAddresses: ['192.0.2.2'] }, { root, run, uid: 0 });
  assert.deepEqual(third.changed.length, 2);
  assert.deepEqual(calls.slice(3), ['daemon-reload', 'restart']);
});

test('an installation that was cut off at any call of systemctl is completed by the next', async (t) => {
  for (const verb of ['daemon-reload', 'enable', 'restart']) {
    const { root, paths, run, failAt, calls } = await host(t);
    const given = order();
    failAt(verb);
    await assert.rejects(installAgent(given, { root, run, uid: 0 }), new RegExp(`killed at ${verb}`));
    const { identity } = await installAgent(given, { root, run, uid: 0 });
    assert.equal(calls.at(-1), 'restart');
    // A change of managers whose restart was cut off is taken up although nothing is left to write.
    const next = { ...given, managers: { epoch: 1, number: 2, pins: [identityOf('manager').pin] } };
    failAt('restart');
    await assert.rejects(installAgent(next, { root, run, uid: 0 }), /killed at restart/);
    const again = await installAgent(next, { root, run, uid: 0 });
    assert.deepEqual(again.changed, ['service virt-trust-agent.service restarted']);
    assert.deepEqual(again.identity, identity);
    assert.ok(!(await readdir(paths.agent)).includes('restart-needed'));
  }
});

test('a host that can not take the agent is refused with the reason, and nothing is written', async (t) => {
  const { root, paths, run } = await host(t);
  const before = (await readdir(root, { recursive: true })).sort();
  const install = (options: object) => installAgent(order(), { root, run, uid: 0, ...options });
  await assert.rejects(install({ uid: 1000 }), { code: 'install.not_root' });
  await assert.rejects(install({ clock: { now: () => 1_000_000_000_000 as Instant } }), {
    code: 'install.clock',
  });
  await assert.rejects(install({ root: paths.at('/var') }), { code: 'install.no_systemd' });
  assert.deepEqual((await readdir(root, { recursive: true })).sort(), before);
});

test('a read-only file system and a full disk are named, and nothing is written', {
  skip: process.getuid?.() !== 0 && 'needs root',
}, async (t) => {
  const { root, paths, run } = await host(t);
  const mounted = async (place: string, options: string) => {
    await runHostCommand('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', paths.at(place)]);
    let there = true;
    const unmount = async () => {
      if (there) await runHostCommand('umount', [paths.at(place)]);
      there = false;
    };
    t.after(unmount);
    return unmount;
  };
  const install = () => installAgent(order(), { root, run, uid: 0 });
  const unmount = await mounted('/etc', 'ro');
  await assert.rejects(install(), {
    code: 'install.not_writable',
    message: /\/etc\/systemd\/system is on a read-only/,
  });
  await unmount();
  const unmountState = await mounted('/var/lib', 'size=1m');
  await assert.rejects(install(), { code: 'install.disk_full' });
  await unmountState();
  assert.deepEqual(await readdir(paths.at('/var/lib')), []);
  assert.deepEqual(await readdir(paths.at('/etc/systemd/system')), []);
});

test('a damaged order of before is mended by a new one', async (t) => {
  const { root, paths, run } = await host(t);
  const given = order();
  await installAgent(given, { root, run, uid: 0 });
  await writeFile(paths.order, '{');
  await writeFile(paths.managers, '');
  await chmod(paths.agent, 0o755);
  const { changed } = await installAgent(given, { root, run, uid: 0 });
  assert.equal(changed.length, 4);
  assert.equal(JSON.parse(await readFile(paths.managers, 'utf8')).number, 1);
});

test('removal answers first, and then nothing of the agent is left', async (t) => {
  const { root, paths, run, removed, calls } = await host(t);
  await mkdir(paths.at('/usr/local/lib/virt-trust'), { recursive: true });
  await installAgent(order(), { root, run, uid: 0 });
  const gone = removed();
  const outcome = await localAgentClient(paths.socket).call(postRemoval, {});
  assert.deepEqual(outcome.restored, ['/etc/libvirt/libvirtd.conf']);
  await gone;
  assert.deepEqual(calls.slice(-2), ['disable', 'stop']);
  assert.deepEqual(await readdir(paths.at('/var/lib')), []);
  assert.deepEqual(await readdir(paths.at('/etc/systemd/system')), []);
  assert.deepEqual(await readdir(paths.at('/usr/local/bin')), []);
  await uninstallAgent({ root, run });
});

test('an order is accepted in its exact form alone', () => {
  assert.throws(() => parseInstallOrder('{'), { code: 'install.bad_order' });
  assert.throws(() => parseInstallOrder(JSON.stringify({ ...order(), surprise: 1 })), {
    code: 'contract.invalid',
  });
  assert.throws(() => parseInstallOrder(JSON.stringify({ ...order(), managerAddresses: ['a b'] })), {
    code: 'contract.invalid',
  });
  assert.deepEqual(parseInstallOrder(JSON.stringify(order(identityOf('manager').pin))).channelPort, 16515);
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      assert.throws(() => parseInstallOrder(text), /install/);
    }),
  );
});
