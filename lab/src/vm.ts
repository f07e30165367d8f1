import type { Host } from './host.ts';

/** What a test VM shows and has; it has no disk and no operating system. */
export interface TestVm {
  readonly name: string;
  /** Where its VNC server listens, empty for where the host's configuration says; without it, it has none. */
  readonly vncListen?: string;
  /** The same of its SPICE server. */
  readonly spiceListen?: string;
}

/** A running QEMU: two sightings that are equal are the same process, never restarted. */
export interface QemuProcess {
  readonly vm: string;
  readonly pid: number;
  /** Clock ticks since the machine booted, field 22 of proc_pid_stat(5). */
  readonly startTime: number;
}

/** The domain XML of a diskless 64 MiB VM under software emulation. */
export function testVmXml({ name, vncListen, spiceListen }: TestVm): string {
  const at = (listen: string) => (listen === '' ? '' : ` listen='${listen}'`);
  const graphics = [
    vncListen === undefined ? '' : `<graphics type='vnc' port='-1' autoport='yes'${at(vncListen)}/>`,
    spiceListen === undefined ? '' : `<graphics type='spice' autoport='yes'${at(spiceListen)}/>`,
  ].join('');
  return `<domain type='qemu'>
  <name>${name}</name>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>${graphics}</devices>
</domain>
`;
}

/** Starts the VM on the host, transient: it is gone there once it is stopped or migrated away. */
export async function startVm(host: Host, vm: TestVm): Promise<void> {
  const path = `/run/${vm.name}.xml`;
  await host.writeFile(path, testVmXml(vm));
  await host.run(['virsh', '--connect', 'qemu:///system', 'create', path]);
}

/** The names of the VMs that run on the host. */
export async function runningVms(host: Host): Promise<string[]> {
  const argv = ['virsh', '--connect', 'qemu:///system', 'list', '--name', '--state-running'];
  return (await host.run(argv)).split('\n').filter(Boolean);
}

const LIST = `
for process in /proc/[0-9]*; do
  case "$(readlink "$process/exe")" in */qemu-system-*) ;; *) continue ;; esac
  printf '%s\\t%s\\n' "$(cat "$process/stat")" "$(tr '\\0' ' ' <"$process/cmdline")"
done`;

/** The QEMU processes of the host, seen from inside, ordered by VM. */
export async function qemuProcesses(host: Host): Promise<QemuProcess[]> {
  return parseQemuProcesses(await host.run(['sh', '-c', LIST]));
}

/** Parses lines of proc_pid_stat(5), a tab and the command line. */
export function parseQemuProcesses(text: string): QemuProcess[] {
  const found = text.split('\n').flatMap((line) => {
    const [stat = '', command = ''] = line.split('\t');
    // The command's name, in parentheses, may itself hold spaces and parentheses.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const vm = /-name guest=([^, ]+)/.exec(command)?.[1];
    if (vm === undefined) return [];
    return [{ vm, pid: Number.parseInt(stat, 10), startTime: Number(fields[19]) }];
  });
  return found.sort((a, b) => (a.vm < b.vm ? -1 : 1));
}
