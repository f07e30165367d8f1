import { machine } from 'node:os';
import { runHostCommand } from './host/host-command.ts';
import { readProgramVersion } from './host/libvirt-daemons.ts';

const PROGRAMS: Readonly<Record<'libvirt' | 'qemu', readonly string[]>> = {
  libvirt: ['libvirtd', 'virtqemud', 'virsh'],
  qemu: [`qemu-system-${machine()}`, 'qemu-kvm', 'qemu-img'],
};

const known = new Map<string, Promise<string | undefined>>();

/** The version of the libvirt or QEMU that is installed on this machine, asked once; undefined for none. */
export function installedVersion(program: 'libvirt' | 'qemu'): Promise<string | undefined> {
  const asked =
    known.get(program) ?? readProgramVersion(runHostCommand, PROGRAMS[program]).catch(() => undefined);
  known.set(program, asked);
  return asked;
}
