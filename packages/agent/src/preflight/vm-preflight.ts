import { virshDomain } from '@virt-trust/base/virsh-domain.ts';
import { parseCapabilities } from '@virt-trust/check/host/capabilities.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import type { ReadingUser } from '@virt-trust/check/reader.ts';
import type { PreflightOrder, PreflightReport } from '@virt-trust/contract/model/preflight.ts';
import { undueParts } from '@virt-trust/libvirt/migration-definition.ts';
import type { QemuUser } from '../services/qemu-process.ts';
import { hostPort } from '../services/reach.ts';
import { bindingsFindings } from './bindings-checks.ts';
import { readBindings } from './bindings-facts.ts';
import { destinationFindings } from './destination-checks.ts';
import { mayTry, readDestinationFacts } from './destination-facts.ts';
import { directoryOf } from './directory-of.ts';
import type { FindingList } from './finding-list.ts';
import type { DiskFile, FilesSeen } from './host-files.ts';
import { LibvirtQuestions, wordsOf } from './libvirt-questions.ts';
import type { LookAtFiles } from './outside-files.ts';
import { sourceFindings } from './source-checks.ts';
import { readSourceVm } from './source-vm.ts';
import { surroundingsFindings } from './surroundings-checks.ts';
import { readSurroundings } from './surroundings-facts.ts';
import { type VmNeeds, vmNeedsOf } from './vm-needs.ts';

export interface VmPreflightParts {
  readonly order: PreflightOrder;
  readonly libvirt: LibvirtQuestions;
  readonly list: FindingList;
  readonly run: RunHostCommand;
  readonly signal: AbortSignal;
  /** As whom QEMU reads disks here. */
  readonly reader: ReadingUser | undefined;
  readonly qemuUser: () => Promise<QemuUser>;
  readonly files: LookAtFiles;
}

export const LIBVIRT_FIX = 'see its log: journalctl -u libvirtd (virtqemud)';

type Vm = PreflightReport['vm'];

/** The VM on its source, or what this host has of what it needs. */
export async function checkVm(parts: VmPreflightParts): Promise<Vm> {
  const { order, list } = parts;
  if (order.vm === null) return null;
  try {
    if (order.role === 'source') return await leaving(parts, order.vm);
    if (order.vmXml !== null) await coming(parts, order.vm, order.vmXml, order.disks);
    else if (order.mode === 'plain' && !order.hasPeerAgent) await comingFromNobody(parts, order.vm);
    else unchecked(parts, order.vm, '');
  } catch (error) {
    list.error('libvirt.refused', `libvirt of ${order.own} does not answer: ${wordsOf(error)}`, LIBVIRT_FIX);
  }
  return null;
}

async function leaving(parts: VmPreflightParts, vm: string): Promise<Vm> {
  const { order, libvirt, list, signal, files } = parts;
  const found = await readSourceVm(vm, order.options, libvirt, (question) => files(question, signal));
  if (found === null) {
    unknown(list, vm, order.own, order.peer);
    return null;
  }
  list.all.push(...sourceFindings(found.seen, order.options, order));
  if (order.mode === 'plain' && !order.hasPeerAgent) await toNobody(parts, found.report.xml);
  return found.report;
}

function unknown(list: FindingList, vm: string, source: string, destination: string): void {
  list.add(
    'error',
    'vm.unknown',
    `failed to get domain ${vm}: ${source} has no VM of that name`,
    `the VM does not run on the source host now: see what that has, virsh list --all on ${source}, and whether it is on the other: virt-trust host show ${destination}`,
    source,
  );
}

function unchecked({ order, list }: VmPreflightParts, vm: string, why: string): void {
  list.note(
    'vm.unchecked',
    `${vm} was not looked at: ${order.peer} did not show it${why === '' ? '' : ` (${why})`}, so whether ${order.own} can run it is not known`,
    `look by yourself: virsh dumpxml ${virshDomain({ name: vm, uuid: null })} on ${order.peer}`,
  );
}

/** What this host has of what a VM needs that its source showed. */
async function coming(
  parts: VmPreflightParts,
  vm: string,
  xml: string,
  disks: PreflightOrder['disks'],
): Promise<void> {
  const { order, libvirt, list, run } = parts;
  const needs = vmNeedsOf(xml);
  if (!mayTry(needs.emulator))
    list.warning(
      'vm.emulator',
      `${vm} has an emulator of its own, ${needs.emulator}, which was not tried on ${order.own}: only the source says that it is one`,
      'give the VM the emulator of the system (virsh domcapabilities names it), below /usr or /opt',
    );
  if (order.mode === 'pinned' || !order.hasPeerAgent)
    for (const part of undueParts(xml))
      list.error(
        'vm.undue',
        `${vm} has what no VM has business with (${part}), and in mode ${order.mode} ${order.own} does not start it on a source's word`,
        'remove it from the VM (virsh edit), or migrate in mode tls: --mode tls',
      );
  const seen = order.options.offline ? null : await filesOf(parts, needs);
  const facts = await readDestinationFacts(needs, xml, libvirt, true, seen);
  list.all.push(...destinationFindings(needs, facts, { ...order, disks }));
  if (order.options.offline) return;
  const around = await readSurroundings(needs.surroundings, libvirt, run, true, seen);
  list.all.push(...surroundingsFindings(needs, around, order));
  list.all.push(...bindingsFindings(needs, await readBindings(needs, libvirt), order));
}

/** What is to be seen of the VM's files here; null where that was not to be found out, which is said. */
async function filesOf(
  { order, list, reader, qemuUser, files, signal }: VmPreflightParts,
  { name, disks, bootFiles, surroundings }: VmNeeds,
): Promise<FilesSeen | null> {
  const found = disks.flatMap(({ path, kind, readOnly, format, hasChain }): DiskFile[] =>
    path === null || (kind !== 'file' && kind !== 'block')
      ? []
      : [{ path, kind, writes: !readOnly, hasBases: format === 'qcow2' && !hasChain }],
  );
  const others = [...bootFiles, ...surroundings.outputs.map(directoryOf)];
  const directories = found.map(({ path }) => directoryOf(path));
  try {
    const user = found.length === 0 ? null : await qemuUser();
    return await files({ disks: found, others, directories, reader: reader ?? null, user }, signal);
  } catch (error) {
    if (signal.aborted) throw error;
    list.warning(
      'disk.unchecked',
      `the files of ${name} were not looked at on ${order.own}: ${wordsOf(error)}`,
      `look by yourself whether they are there: virsh domblklist ${virshDomain({ name, uuid: null })} on ${order.peer}`,
    );
    return null;
  }
}

/** Of a source without an agent this host's, which conducts, asks the libvirt itself, as the migration will. */
async function comingFromNobody(parts: VmPreflightParts, vm: string): Promise<void> {
  const { order, list, run, signal, files } = parts;
  if (order.sourceAddress === null) return unchecked(parts, vm, '');
  const remote = new LibvirtQuestions(run, signal, plainUri(order.sourceAddress, order));
  let found: Awaited<ReturnType<typeof readSourceVm>>;
  try {
    if (![...(await remote.vms('--all')).values()].includes(vm))
      return unknown(list, vm, order.peer, order.own);
    found = await readSourceVm(vm, order.options, remote, (question) => files(question, signal));
  } catch (error) {
    if (signal.aborted) throw error;
    return unchecked(parts, vm, wordsOf(error));
  }
  if (found === null) return unknown(list, vm, order.peer, order.own);
  const sides = { own: order.peer, peer: order.own };
  list.all.push(...sourceFindings(found.seen, order.options, sides));
  await coming(parts, vm, found.report.xml, found.report.disks);
}

/** A destination without an agent: what its libvirt says over plain TCP, where that is open. */
async function toNobody({ order, list, run, signal }: VmPreflightParts, xml: string): Promise<void> {
  const remote = new LibvirtQuestions(run, signal, plainUri(order.destination.libvirtAddress, order));
  try {
    const hostUuid = parseCapabilities(await remote.ask(['capabilities'])).hostUuid;
    const own = parseCapabilities(await new LibvirtQuestions(run, signal).ask(['capabilities'])).hostUuid;
    if (hostUuid !== undefined && hostUuid === own)
      list.add(
        'error',
        'host.same_uuid',
        `${order.own} and ${order.peer} have the same host UUID ${own}: libvirt takes them for one host and refuses`,
        'on one of them: set host_uuid = "$(uuidgen)" in /etc/libvirt/libvirtd.conf (virtqemud.conf), then systemctl restart libvirtd',
        null,
      );
    const needs = vmNeedsOf(xml);
    const facts = await readDestinationFacts(needs, xml, remote, false);
    const sides = { own: order.peer, peer: order.own };
    list.all.push(...destinationFindings(needs, facts, { options: order.options, disks: [], ...sides }));
    if (order.options.offline) return;
    const around = await readSurroundings(needs.surroundings, remote, run, false);
    list.all.push(...surroundingsFindings(needs, around, sides));
    list.all.push(...bindingsFindings(needs, await readBindings(needs, remote, false), sides));
  } catch (error) {
    if (signal.aborted) throw error;
    // The handshake says it in full.
    list.add(
      'warning',
      'host.unseen',
      `libvirt of ${order.peer} was not asked whether it can run the VM: ${wordsOf(error)}`,
      `see that it listens for plain TCP without authentication, or take it under management: virt-trust host add`,
      order.peer,
    );
  }
}

function plainUri(address: string, { destination }: PreflightOrder): string {
  return `qemu+tcp://${hostPort(address, destination.libvirtPort)}/system`;
}
