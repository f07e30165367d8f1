import assert from 'node:assert/strict';
import type { Host } from '../src/host.ts';
import { runningVms } from '../src/vm.ts';

/** How the administrator before virt-trust migrated: by hand, with the hosts' standing certificates or plain TCP. */
async function migrateByHand(vm: string, from: Host, to: Host, transport: 'tls' | 'tcp'): Promise<void> {
  const native = transport === 'tls' ? ['--tls'] : [];
  await from.run(['virsh', 'migrate', '--live', ...native, vm, `qemu+${transport}://${to.name}/system`]);
  assert.ok((await runningVms(to)).includes(vm), `${vm} does not run on ${to.name}`);
}

/** Moves the VM there and back, so that both directions were tried. */
export async function migrateBothWays(
  vm: string,
  here: Host,
  there: Host,
  transport: 'tls' | 'tcp',
): Promise<void> {
  await migrateByHand(vm, here, there, transport);
  await migrateByHand(vm, there, here, transport);
}

/** Whether a client with nothing but the given CA reaches libvirtd of the host, seen from another host. */
export async function clientReaches(client: Host, server: Host, transport: 'tls' | 'tcp'): Promise<boolean> {
  const said = await client.exec(['virsh', '-c', `qemu+${transport}://${server.name}/system`, 'hostname']);
  return said.code === 0 && said.stdout.trim() === server.name;
}
