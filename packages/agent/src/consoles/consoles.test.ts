import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { isTrustError } from '@virt-trust/base/error.ts';
import { SECOND } from '@virt-trust/base/instant.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { temporaryRoot } from '../fixtures.ts';
import { agentPaths } from '../state/paths.ts';
import { Consoles } from './consoles.ts';
import { isVisit, type VisitWatch } from './visits.ts';

const UUID = '11111111-1111-4111-8111-111111111111';
const PID = 77;
const OPEN = ['-vnc', '[::]:0,password=on,tls-creds=c', '-spice', 'port=5901,tls-port=5902,addr=::'];
const PLAIN = ['-vnc', '127.0.0.1:0', '-spice', 'port=5901,addr=127.0.0.1,disable-ticketing=on'];

interface Visitor {
  readonly ports: readonly number[];
  visit(): void;
  stopped: boolean;
}

async function hostWith(
  t: TestContext,
  displays: readonly string[] = OPEN,
  passwords = { vnc: '', spice: '' },
) {
  const paths = agentPaths(await temporaryRoot(t));
  const words = ['/usr/bin/qemu-system-x86_64', '-name', 'guest=guest', '-uuid', UUID, ...displays];
  const credentials = ['-object', 'tls-creds-x509,id=c,dir=/etc/pki/libvirt-vnc,verify-peer=off', ''];
  for (const [path, text] of [
    [`/proc/${PID}/cmdline`, [...words, ...credentials].join('\0')],
    [`/proc/${PID}/status`, `NSpid:\t${PID}\n`],
    [`/proc/${PID}/stat`, `${PID} (qemu) ${'1 '.repeat(30)}`],
    ['/run/libvirt/qemu/guest.pid', String(PID)],
  ] as const) {
    await mkdir(join(paths.at(path), '..'), { recursive: true });
    await writeFile(paths.at(path), text);
  }
  const graphics: Record<string, string> = {
    vnc: `<graphics type='vnc' port='5900' listen='::'${passwords.vnc}/>`,
    spice: `<graphics type='spice' port='5901' listen='::'${passwords.spice}/>`,
  };
  const calls: string[] = [];
  const modes: number[] = [];
  const updated = [Promise.withResolvers<void>()];
  const run: RunHostCommand = async (_, args) => {
    calls.push(args.join(' '));
    if (args.includes('update-device')) {
      const file = args.at(-2) ?? '';
      modes.push((await stat(file)).mode & 0o777, (await stat(join(file, '..'))).mode & 0o777);
      const xml = await readFile(file, 'utf8');
      graphics[/type='(\w+)'/.exec(xml)?.[1] ?? ''] = xml;
      updated.at(-1)?.resolve();
      updated.push(Promise.withResolvers());
    }
    const stdout = `<domain>\n  <devices>\n${graphics['vnc']}${graphics['spice']}\n  </devices>\n</domain>\n`;
    return { code: 0, stdout, stderr: '' };
  };
  const visitors: Visitor[] = [];
  const watch = async (_: unknown, ports: readonly number[]): Promise<VisitWatch> => {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const visitor: Visitor = { ports, visit: () => resolve(true), stopped: false };
    visitors.push(visitor);
    return {
      visited: promise,
      stop() {
        visitor.stopped = true;
        resolve(false);
      },
    };
  };
  const told: string[] = [];
  const record = async (...words: string[]) => void told.push(words.join(' '));
  const context = { paths, run, clock: systemClock, randomness: systemRandomness, log: silentLog, record };
  const consoles = await Consoles.open(context, watch, { vnc: 0, spice: 0 });
  t.after(() => consoles.close());
  /** Resolves at the next change of a display. */
  const change = () => updated.at(-1)?.promise;
  return { consoles, graphics, calls, modes, visitors, told, paths, change };
}

test('a VM is told with each display, how it listens and whom it asks for what', async (t) => {
  const { consoles } = await hostWith(t);
  assert.deepEqual(await consoles.displays('guest'), {
    uuid: UUID,
    vm: 'guest',
    displays: [
      {
        type: 'spice',
        listen: '::',
        port: 5901,
        tlsPort: 5902,
        tlsDirectory: null,
        authentication: 'password',
      },
      {
        type: 'vnc',
        listen: '::',
        port: null,
        tlsPort: 5900,
        tlsDirectory: '/etc/pki/libvirt-vnc',
        authentication: 'password',
      },
    ],
  });
  await assert.rejects(consoles.displays('other'), (error) => isTrustError(error, 'console.not_running'));
});

test('RFC 6143 §7.2.2: a VNC password has 8 characters, and QEMU is told when it ends', async (t) => {
  const { consoles, graphics, visitors } = await hostWith(t);
  const before = systemClock.now();
  const { password, expiresAt } = await consoles.createPassword('guest', 'vnc', 60);
  assert.match(password, /^[A-Za-z0-9_-]{8}$/);
  assert.ok(expiresAt > before + 58 * SECOND && expiresAt <= systemClock.now() + 60 * SECOND);
  // QEMU takes it to the end of the second that it is told.
  const until = new Date(expiresAt - SECOND).toISOString().slice(0, 19);
  assert.match(graphics['vnc'] ?? '', new RegExp(`passwd='${password}' passwdValidTo='${until}'`));
  assert.deepEqual(visitors[0]?.ports, [5900]);
  const spice = await consoles.createPassword('guest', 'spice', 60);
  assert.match(spice.password, /^[A-Za-z0-9_-]{32}$/);
  const earlier = new Date(spice.expiresAt - 2 * SECOND).toISOString().slice(0, 19);
  assert.ok(graphics['spice']?.includes(` passwdValidTo='${earlier}'`), graphics['spice'] ?? '');
});

test('SECURITY: no argument, event or file that stays has the password, and nobody else reads the one that goes', async (t) => {
  const { consoles, calls, told, modes, paths } = await hostWith(t);
  const { password } = await consoles.createPassword('guest', 'vnc', 60);
  assert.ok(![...calls, ...told].some((text) => text.includes(password)));
  assert.deepEqual(modes, [0o600, 0o700]);
  assert.deepEqual(await readdir(join(paths.run, 'consoles')), []);
});

test('the password goes once a client came in with it, that of the other display stays', async (t) => {
  const { consoles, graphics, visitors, change, told } = await hostWith(t);
  await consoles.createPassword('guest', 'vnc', 60);
  const { password } = await consoles.createPassword('guest', 'spice', 60);
  const changed = change();
  visitors[0]?.visit();
  await changed;
  assert.match(graphics['vnc'] ?? '', / passwd=''/);
  assert.ok(graphics['spice']?.includes(password));
  await consoles.close();
  assert.ok(told.some((text) => text.startsWith('console.visited guest')));
});

test('a second password replaces the first, whose end takes nothing from it', async (t) => {
  const { consoles, graphics, visitors } = await hostWith(t);
  const first = await consoles.createPassword('guest', 'vnc', 60);
  const second = await consoles.createPassword('guest', 'vnc', 60);
  assert.notEqual(first.password, second.password);
  assert.equal(visitors[0]?.stopped, true);
  visitors[0]?.visit();
  // Displays change one after the other: what the first visit began would be done by now.
  await consoles.createPassword('guest', 'spice', 60);
  assert.ok(graphics['vnc']?.includes(second.password));
});

test('SECURITY: a display that asks nobody gets none, since it would let everybody in all the same', async (t) => {
  const { consoles, calls } = await hostWith(t, PLAIN);
  for (const type of ['vnc', 'spice'] as const)
    await assert.rejects(
      consoles.createPassword('guest', type, 60),
      (error) => isTrustError(error, 'console.no_password') && /console\.listen/.test(error.hint ?? ''),
    );
  assert.deepEqual(calls, []);
});

test("a password of the VM's own configuration stays, one that has expired does not count", async (t) => {
  const { consoles } = await hostWith(t, OPEN, {
    vnc: " passwd='of old'",
    spice: " passwd='gone' passwdValidTo='2020-01-01T00:00:00'",
  });
  await assert.rejects(consoles.createPassword('guest', 'vnc', 60), (error) =>
    isTrustError(error, 'console.own_password'),
  );
  await consoles.createPassword('guest', 'spice', 60);
});

test("virsh(1): a visit is a client that came in at the display's own port", () => {
  const line = (phase: string, port: number, vm = 'guest') =>
    `event 'graphics' for domain '${vm}': ${phase} local[IPv6 :: ${port}] remote[IPv6 ::ffff:192.0.2.1 56126] vnc`;
  assert.ok(isVisit(line('initialize', 5900), 'guest', [5900]));
  for (const other of [
    line('connect', 5900),
    line('disconnect', 5900),
    line('initialize', 5902),
    line('initialize', 5900, 'other'),
    'event loop timed out',
  ])
    assert.ok(!isVisit(other, 'guest', [5900]), other);
});
