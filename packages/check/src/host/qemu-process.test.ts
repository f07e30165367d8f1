import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { readQemuProcesses } from './qemu-process.ts';

const UUID = '11111111-1111-4111-8111-111111111111';

async function host(t: TestContext) {
  const root = await mkdtemp(join(tmpdir(), 'virt-trust-qemu-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  const at = (path: string) => join(root, path);
  await mkdir(at('/run/libvirt/qemu'), { recursive: true });
  return {
    names: async () => (await readQemuProcesses({ at })).map(({ name }) => name),
    async process(pid: number, guest: string) {
      await mkdir(at(`/proc/${pid}`), { recursive: true });
      const words = ['/usr/bin/qemu-system-x86_64', '-name', `guest=${guest}`, '-uuid', UUID, ''];
      await writeFile(at(`/proc/${pid}/cmdline`), words.join('\0'));
      await writeFile(at(`/proc/${pid}/status`), `NSpid:\t${pid}\n`);
      await writeFile(at(`/proc/${pid}/stat`), `${pid} (qemu) ${'1 '.repeat(30)}`);
    },
    note: (path: string, pid: number) => writeFile(at(path), `${pid}`),
  };
}

test('a QEMU that libvirt has noted is a VM, whatever its name', async (t) => {
  const { names, process, note } = await host(t);
  for (const [pid, name] of [' a,b ', 'vm', '..'].entries()) {
    await process(pid + 7, name.replaceAll(',', ',,'));
    await note(`/run/libvirt/qemu/${name}.pid`, pid + 7);
  }
  assert.deepEqual((await names()).sort(), ['..', 'a,b', 'vm']);
});

test('SECURITY: what a local user makes look like a VM is none, also by the name of one or by a file of his own', async (t) => {
  const { names, process, note } = await host(t);
  await process(7, 'vm');
  await note('/run/libvirt/qemu/vm.pid', 7);
  await process(8, 'vm');
  await process(9, 'other');
  await process(10, '../../his');
  await note('/run/his.pid', 10);
  assert.deepEqual(await names(), ['vm']);
});
