import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseQemuProcesses, testVmXml } from './vm.ts';

const stat = (pid: number, command: string, start: number) =>
  `${pid} (${command}) S 1 ${Array.from({ length: 17 }, (_, i) => i).join(' ')} ${start} 4096`;

test('a QEMU process is read by name, process and start time', () => {
  const line = `${stat(202, 'qemu-system-x86', 9001)}\t/usr/bin/qemu-system-x86_64 -name guest=vm1,debug-threads=on -S`;
  assert.deepEqual(parseQemuProcesses(`${line}\n`), [{ vm: 'vm1', pid: 202, startTime: 9001 }]);
});

test('a process name with spaces and parentheses does not shift the fields', () => {
  const line = `${stat(7, 'a) S (b c', 12)}\tqemu-system-x86_64 -name guest=z -S`;
  assert.deepEqual(parseQemuProcesses(line), [{ vm: 'z', pid: 7, startTime: 12 }]);
});

test('QEMU processes without a guest, as libvirt starts to ask for capabilities, are left out', () => {
  assert.deepEqual(parseQemuProcesses(`${stat(7, 'qemu', 12)}\tqemu-system-x86_64 -S -no-user-config\n`), []);
});

test('a VM has a VNC or SPICE server only where one is asked for', () => {
  assert.ok(!testVmXml({ name: 'vm1' }).includes('graphics'));
  assert.match(
    testVmXml({ name: 'vm1', vncListen: '127.0.0.1' }),
    /<graphics type='vnc'.* listen='127\.0\.0\.1'\/>/,
  );
  assert.match(testVmXml({ name: 'vm1', spiceListen: '::1' }), /<graphics type='spice'.* listen='::1'\/>/);
});
