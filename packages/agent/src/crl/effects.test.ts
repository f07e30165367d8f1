import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { temporaryRoot } from '../fixtures.ts';
import { type AgentPaths, agentPaths } from '../state/paths.ts';
import { SystemCrlEffects } from './effects.ts';

const UUIDS = { asks: '11111111-1111-4111-8111-111111111111', plain: '22222222-2222-4222-8222-222222222222' };
const UNITS = (state: string) =>
  ['libvirtd.service', 'libvirtd.socket']
    .map(
      (id, at) =>
        `Id=${id}\nLoadState=loaded\nActiveState=${at === 0 ? 'inactive' : state}\nUnitFileState=enabled\n`,
    )
    .join('\n');

async function host(t: TestContext, answer: (args: readonly string[]) => string = () => '') {
  const paths = agentPaths(await temporaryRoot(t));
  const asked: string[] = [];
  const run: RunHostCommand = async (program, args) => {
    asked.push([program.replace(/^.*\//, ''), ...args].join(' '));
    return { code: 0, stdout: answer(args), stderr: '' };
  };
  return { paths, asked, effects: new SystemCrlEffects(paths, run) };
}

/** A QEMU as /proc shows it, with a VNC server on our certificates, and as libvirt notes it. */
async function putQemu(paths: AgentPaths, pid: number, uuid: string, verifies: boolean): Promise<void> {
  await mkdir(paths.at('/run/libvirt/qemu'), { recursive: true });
  await writeFile(paths.at(`/run/libvirt/qemu/vm${pid}.pid`), `${pid}`);
  const directory = join(paths.at('/proc'), `${pid}`);
  await mkdir(directory, { recursive: true });
  const object = `{"qom-type":"tls-creds-x509","id":"c","dir":"/etc/pki/libvirt-vnc","verify-peer":${verifies}}`;
  const line = ['/usr/bin/qemu-system-x86_64', '-name', `guest=vm${pid}`, '-uuid', uuid, '-object', object];
  await writeFile(join(directory, 'cmdline'), [...line, '-vnc', '0.0.0.0:0,tls-creds=c', ''].join('\0'));
  await writeFile(join(directory, 'status'), `NSpid:\t${pid}\n`);
  await writeFile(join(directory, 'stat'), `${pid} (qemu) ${'1 '.repeat(30)}`);
}

test('a CRL is loaded by VNC servers that ask viewers for certificates, and by no others', async (t) => {
  const { paths, asked, effects } = await host(t);
  await putQemu(paths, 7, UUIDS.plain, false);
  await effects.load('vnc');
  assert.equal(asked.length, 0);
  await putQemu(paths, 8, UUIDS.asks, true);
  await effects.load('vnc');
  assert.ok(asked.some((line) => line.includes(UUIDS.asks) && /display-?reload/.test(line)));
  assert.ok(!asked.some((line) => line.includes(UUIDS.plain)));
});

test('a VM that arrives by migration loads a CRL once it has, and the others not again for that', async (t) => {
  const { paths, asked, effects } = await host(t, (args) => (args[0] === '-C' ? '7\n' : ''));
  await putQemu(paths, 7, UUIDS.plain, true);
  await putQemu(paths, 8, UUIDS.asks, true);
  const state = (job: string) =>
    writeFile(paths.at('/run/libvirt/qemu/vm8.xml'), `<domstatus>${job}<domain id='1'></domain></domstatus>`);
  const reloaded = (uuid: string) =>
    asked.filter((line) => line.includes(uuid) && /display-?reload/.test(line)).length;
  await state("<job type='none' async='migration in' phase='prepare'></job>");
  for (const _ of [1, 2])
    await assert.rejects(effects.load('vnc'), (error) => isTrustError(error, 'vnc.arriving'));
  assert.deepEqual([reloaded(UUIDS.plain), reloaded(UUIDS.asks)], [1, 0]);
  await state('');
  await effects.load('vnc');
  assert.deepEqual([reloaded(UUIDS.plain), reloaded(UUIDS.asks)], [1, 1]);
  await effects.load('vnc');
  assert.deepEqual([reloaded(UUIDS.plain), reloaded(UUIDS.asks)], [2, 2]);
});

test('nothing has to load the CRL of migrations, which are read each time, nor of SPICE, which reads none', async (t) => {
  const { asked, effects } = await host(t);
  await effects.load('migration');
  await effects.load('spice');
  assert.deepEqual(asked, []);
});

test('a daemon is stopped where no connection would start it either', async (t) => {
  for (const [state, stopped] of [
    ['active', false],
    ['inactive', true],
  ] as const) {
    const { effects } = await host(t, (args) => (args[0] === 'show' ? UNITS(state) : ''));
    assert.equal(await effects.stopped(), stopped);
  }
});

test('a session without a subject tells of a handshake only where clients are verified and nobody types a password', async (t) => {
  for (const [text, named] of [
    ['auth_tls = "none"\n', true],
    ['', true],
    ['auth_tls = "sasl"\n', false],
    ['tls_no_verify_certificate = 1\n', false],
  ] as const) {
    const { paths, effects } = await host(t);
    await mkdir(paths.at('/etc/libvirt'), { recursive: true });
    for (const daemon of ['libvirtd', 'virtproxyd'])
      await writeFile(paths.at(`/etc/libvirt/${daemon}.conf`), text);
    assert.equal(await effects.namesEverySession(), named, text);
  }
});
