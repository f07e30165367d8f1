import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseQemuCommandLine } from '@virt-trust/check/host/qemu-process.ts';
import { agentPaths } from '../state/paths.ts';
import { staleDevices } from './stale-devices.ts';

const UUID = '7f1d3a52-0000-4000-8000-000000000001';

function vm(...objects: string[]) {
  const words = objects.flatMap((object) => ['-object', object]);
  const line = ['/usr/bin/qemu-system-x86_64', '-name', 'guest=a', '-uuid', UUID, ...words, ''].join('\0');
  const parsed = parseQemuCommandLine(line);
  assert.ok(parsed);
  return parsed;
}

const credentials = (id: string, dir: string) =>
  JSON.stringify({ 'qom-type': 'tls-creds-x509', id, dir, endpoint: 'client', 'verify-peer': true });

test('a device whose files were changed after its VM was started is stale, and no other', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'virt-trust-stale-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  const paths = agentPaths(root);
  const now = Math.floor(Date.now() / 1000);
  await mkdir(paths.at('/proc'), { recursive: true });
  await mkdir(paths.at('/etc/pki/libvirt-chardev'), { recursive: true });
  await writeFile(paths.at('/etc/pki/libvirt-chardev/client-cert.pem'), '');
  await writeFile(paths.at('/proc/stat'), `cpu 1 2 3\nbtime ${now - 1000}\n`);
  const guest = vm(
    credentials('objcharserial0_tls0', '/etc/pki/libvirt-chardev'),
    credentials('objlibvirt-1-storage_tls0', '/etc/pki/libvirt-nbd'),
    credentials('vnc-tls-creds0', '/etc/pki/libvirt-chardev'),
  );
  assert.deepEqual(
    guest.devices.map(({ kind }) => kind),
    ['chardev', 'nbd'],
  );
  const started = (secondsAgo: number) => ({ ...guest, pid: 1, startTicks: (1000 - secondsAgo) * 100 });
  assert.deepEqual(await staleDevices(paths, [started(500)]), [
    { vm: 'a', kind: 'chardev', directory: '/etc/pki/libvirt-chardev' },
  ]);
  assert.deepEqual(await staleDevices(paths, [started(-500)]), []);
  await mkdir(paths.at('/etc/pki/libvirt-nbd'));
  await writeFile(paths.at('/etc/pki/libvirt-nbd/ca-crl.pem'), '');
  assert.equal((await staleDevices(paths, [started(500)])).length, 1, 'a client reads no CRL');
  await writeFile(paths.at('/etc/pki/libvirt-nbd/client-cert.pem'), '');
  assert.deepEqual(
    (await staleDevices(paths, [started(500)])).map(({ kind }) => kind),
    ['chardev', 'nbd'],
  );
});
