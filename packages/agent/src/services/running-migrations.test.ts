import assert from 'node:assert/strict';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import fc from 'fast-check';
import { temporaryRoot } from '../fixtures.ts';
import { agentPaths } from '../state/paths.ts';
import { arrived, nextVmChange, parseMigrationJob, readRunningMigrations } from './running-migrations.ts';

/** libvirt's state of a running VM, as libvirt 9.0 writes it. */
const status = (job: string, metadata = '') =>
  `<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n<domstatus state='running' reason='booted' pid='1'>
  <monitor path='/var/lib/libvirt/qemu/domain-1-vm/monitor.sock' type='unix'/>
  ${job}
  <domain type='qemu' id='1'>\n    <name>vm</name>${metadata}\n  </domain>\n</domstatus>\n`;

const OUT = `<job type='none' async='migration out' phase='perform3' flags='0x101' asyncStarted='1795356877186'>
    <disk dev='fda' migrating='no'/></job>`;
const IN = "<job type='none' async='migration in' phase='prepare' flags='0x1' asyncStarted='1'>\n</job>";

const daemon =
  (pid: string): RunHostCommand =>
  async () => ({ code: pid === '' ? 1 : 0, stdout: pid, stderr: '' });

test("a migration's direction is what libvirt's state of the VM says", () => {
  assert.equal(parseMigrationJob(status(OUT)), 'outgoing');
  assert.equal(parseMigrationJob(status(IN)), 'incoming');
  assert.equal(parseMigrationJob(status('')), undefined);
  assert.equal(parseMigrationJob(status("<job type='none' async='dump' phase='none'/>")), undefined);
  assert.equal(parseMigrationJob(status("<job type='modify' async='none'/>")), undefined);
});

test('a migration whose post-copy failed holds nobody up: libvirt keeps it over a restart', () => {
  assert.equal(parseMigrationJob(status(OUT.replace('perform3', 'postcopy_failed'))), undefined);
});

test('the owner of a VM does not make it a migration by its metadata', () => {
  const metadata = `<metadata><x:a xmlns:x="u"/>${OUT}</metadata>`;
  assert.equal(parseMigrationJob(status('', metadata)), undefined);
});

test('whatever stands in a state file is read without an error', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      parseMigrationJob(text);
      assert.notEqual(parseMigrationJob(`<domain>${text}${OUT}`), 'outgoing');
    }),
  );
});

test('migrations are those in the state directory while a daemon runs, and VMs that arrive are not here yet', async (t) => {
  const paths = agentPaths(await temporaryRoot(t));
  assert.deepEqual(await readRunningMigrations(paths, daemon('7\n')), []);
  const directory = paths.at('/run/libvirt/qemu');
  await mkdir(directory, { recursive: true });
  for (const [name, job] of [
    ['away', OUT],
    ['coming', IN],
    ['resting', ''],
  ])
    await writeFile(join(directory, `${name}.xml`), status(job ?? ''));
  await writeFile(join(directory, 'away.pid'), '1');
  assert.deepEqual(await readRunningMigrations(paths, daemon('7\n')), [
    { vm: 'away', direction: 'outgoing' },
    { vm: 'coming', direction: 'incoming' },
  ]);
  assert.deepEqual(await readRunningMigrations(paths, daemon('')), []);
  const vms = ['away', 'coming', 'resting'].map((name) => ({ name }));
  const { here, arriving } = await arrived(paths, daemon('7\n'), vms);
  assert.deepEqual([here.map(({ name }) => name), arriving], [['away', 'resting'], [{ name: 'coming' }]]);
});

test('a change of a state file wakes who waits, and so does giving up', async (t) => {
  const paths = agentPaths(await temporaryRoot(t));
  const directory = paths.at('/run/libvirt/qemu');
  await mkdir(directory, { recursive: true });
  const waiting = nextVmChange(paths, new AbortController().signal);
  await writeFile(join(directory, 'vm.xml.new'), '');
  await rename(join(directory, 'vm.xml.new'), join(directory, 'vm.xml'));
  await waiting;
  const stop = new AbortController();
  const given = nextVmChange(paths, stop.signal);
  stop.abort();
  await given;
  await nextVmChange(agentPaths('/nowhere'), stop.signal);
});
