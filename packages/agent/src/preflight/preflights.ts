import { readFile, stat } from 'node:fs/promises';
import { describeError } from '@virt-trust/base/error.ts';
import { shellWord } from '@virt-trust/base/shell-word.ts';
import { parseCapabilities } from '@virt-trust/check/host/capabilities.ts';
import { readListeningPorts } from '@virt-trust/check/host/sockets.ts';
import { type HostFacts, readHostFacts } from '@virt-trust/check/host-facts.ts';
import type { HostCapabilities } from '@virt-trust/contract/model/capabilities.ts';
import type { Grant } from '@virt-trust/contract/model/grant.ts';
import type {
  HandshakeServer,
  PreflightOrder,
  PreflightReport,
} from '@virt-trust/contract/model/preflight.ts';
import { undueParts } from '@virt-trust/libvirt/migration-definition.ts';
import type { QemuUser } from '../apply/services/qemu-process.ts';
import { hostPort } from '../apply/services/reach.ts';
import { isNewer, startOf } from '../capabilities/in-force.ts';
import { PLACES, QEMU_CONFIGURATION } from '../capabilities/look.ts';
import { crlDocument } from '../crl/record.ts';
import { peerClient } from '../peers/peer-client.ts';
import type { AgentContext, Grants, Preflights } from '../ports.ts';
import { destinationFindings } from './destination-checks.ts';
import { mayTry, readDestinationFacts } from './destination-facts.ts';
import { clean, FindingList } from './finding-list.ts';
import { HandshakeServers } from './handshake-servers.ts';
import { makeHandshakes } from './handshakes.ts';
import { LibvirtQuestions, wordsOf } from './libvirt-questions.ts';
import { optionFindings } from './option-checks.ts';
import { ownFindings } from './own-side.ts';
import { sourceFindings } from './source-checks.ts';
import { readSourceVm } from './source-vm.ts';
import { vmNeedsOf } from './vm-needs.ts';

export interface PreflightsParts {
  readonly context: AgentContext;
  readonly grants: Pick<Grants, 'find'>;
  readonly capabilities: () => HostCapabilities | null;
  readonly qemuUser: () => Promise<QemuUser>;
}

/** What this host finds out before a migration; nothing of it is changed. */
export class HostPreflights implements Preflights {
  readonly #parts: PreflightsParts;
  readonly #servers: HandshakeServers;

  constructor(parts: PreflightsParts) {
    this.#parts = parts;
    this.#servers = new HandshakeServers({
      context: parts.context,
      qemuUser: parts.qemuUser,
      places: async () => {
        const { qemuSettings } = await readHostFacts({ at: parts.context.clock.now() });
        const { migrationPortMin: min, migrationPortMax: max, services } = qemuSettings;
        return { directory: services.migrate.directory, ports: { min, max } };
      },
    });
  }

  start(): Promise<void> {
    return this.#servers.start();
  }

  serve(grant: Grant, address: string): Promise<HandshakeServer> {
    return this.#servers.serve(grant, address);
  }

  release(id: string): Promise<void> {
    return this.#servers.release(id);
  }

  close(): Promise<void> {
    return this.#servers.close();
  }

  async check(order: PreflightOrder, signal: AbortSignal): Promise<PreflightReport> {
    const { context, capabilities } = this.#parts;
    const at = context.clock.now();
    const libvirt = new LibvirtQuestions(context.run, signal);
    const list = new FindingList(order.own);
    const host = await readHostFacts({ at });
    const crls = await crlDocument(context.paths)
      .read()
      .catch(() => undefined);
    const crl = crls?.crls.find(({ installed }) => installed.purpose === 'migration');
    const [listening, firewall, opened, hostUuid] = await Promise.all([
      readListeningPorts(context.run),
      context.firewall.detect(),
      context.firewall.opened(),
      readHostUuid(libvirt, list, order.own),
    ]);
    const inFile = host.qemuSettings.migrateTlsForce;
    const isTlsForced = (await this.#isSetLater()) ? (capabilities()?.migrateTlsForce ?? inFile) : inFile;
    const [own, vm, handshakes] = await Promise.all([
      ownFindings(order, { host, isTlsForced, at, listening, crl, firewall, opened }),
      this.#vm(order, libvirt, list, signal),
      order.handshakes ? this.#handshakes(order, host, crl?.pem, list, signal) : [],
    ]);
    const versions = capabilities();
    const options = optionFindings(order.options, order, {
      libvirtVersion: versions?.libvirtVersion ?? host.libvirt.version,
      qemuVersion: versions?.qemuVersion ?? host.qemu.version,
      userfaultfd: await readUserfaultfd(),
    });
    return {
      now: context.clock.now(),
      capabilities: versions,
      hostUuid,
      vm,
      handshakes: handshakes.slice(0, 64),
      findings: [...list.all, ...own, ...options].slice(0, 256),
    };
  }

  /** Whether qemu.conf says something since the daemon that runs has read it. */
  async #isSetLater(): Promise<boolean> {
    const { paths } = this.#parts.context;
    for (const { qemuPid } of Object.values(PLACES)) {
      const start = await startOf(paths.at(qemuPid));
      if (start !== undefined) return isNewer(paths.at(QEMU_CONFIGURATION), start);
    }
    return false;
  }

  /** The VM on its source, or what this host has of what it needs. */
  async #vm(
    order: PreflightOrder,
    libvirt: LibvirtQuestions,
    list: FindingList,
    signal: AbortSignal,
  ): Promise<PreflightReport['vm']> {
    if (order.vm === null) return null;
    try {
      if (order.role === 'source') {
        const found = await readSourceVm(order.vm, order.options, libvirt);
        if (found !== null) {
          list.all.push(...sourceFindings(found.seen, order.options, order));
          if (order.mode === 'plain' && !order.hasPeerAgent)
            await this.#overTheNetwork(order, found.report.xml, list, signal);
          return found.report;
        }
        list.error(
          'vm.unknown',
          `failed to get domain ${order.vm}: ${order.own} has no VM of that name`,
          `the VM does not run on the source host now: see what that has, virsh list --all on ${order.own}, and whether it is on the other: virt-trust host show ${order.peer}`,
        );
      } else if (order.vmXml !== null) {
        const needs = vmNeedsOf(order.vmXml);
        if (!mayTry(needs.emulator))
          list.warning(
            'vm.emulator',
            `${order.vm} has an emulator of its own, ${needs.emulator}, which was not tried on ${order.own}: only the source says that it is one`,
            'give the VM the emulator of the system (virsh domcapabilities names it), below /usr or /opt',
          );
        if (order.mode === 'pinned')
          for (const part of undueParts(order.vmXml))
            list.error(
              'vm.undue',
              `${order.vm} has what no VM has business with (${part}), and in mode pinned ${order.own} does not start it on a source's word`,
              'remove it from the VM (virsh edit), or migrate in mode tls: --mode tls',
            );
        const facts = await readDestinationFacts(needs, order.vmXml, libvirt);
        list.all.push(...destinationFindings(needs, facts, order));
      } else
        list.note(
          'vm.unchecked',
          `${order.vm} was not looked at: ${order.peer} did not show it, so whether ${order.own} can run it is not known`,
          `look by yourself: virsh dumpxml ${shellWord(order.vm)} on ${order.peer}`,
        );
    } catch (error) {
      list.error(
        'libvirt.refused',
        `libvirt of ${order.own} does not answer: ${wordsOf(error)}`,
        LIBVIRT_FIX,
      );
    }
    return null;
  }

  /** A destination without an agent: what its libvirt says over plain TCP, where that is open. */
  async #overTheNetwork(
    order: PreflightOrder,
    xml: string,
    list: FindingList,
    signal: AbortSignal,
  ): Promise<void> {
    const { libvirtAddress, libvirtPort } = order.destination;
    const uri = `qemu+tcp://${hostPort(libvirtAddress, libvirtPort)}/system`;
    const remote = new LibvirtQuestions(this.#parts.context.run, signal, uri);
    try {
      const hostUuid = parseCapabilities(await remote.ask(['capabilities'])).hostUuid;
      const own = parseCapabilities(
        await new LibvirtQuestions(this.#parts.context.run, signal).ask(['capabilities']),
      ).hostUuid;
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
      const asked = { options: order.options, disks: [], own: order.peer, peer: order.own };
      list.all.push(...destinationFindings(needs, facts, asked));
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

  async #handshakes(
    order: PreflightOrder,
    host: HostFacts,
    crl: string | undefined,
    list: FindingList,
    signal: AbortSignal,
  ): Promise<PreflightReport['handshakes']> {
    const { context, grants, qemuUser } = this.#parts;
    const grant = order.hasPeerAgent ? grants.find(order.id) : undefined;
    const peer = grant === undefined ? undefined : peerClient(grant, () => context.keys().current);
    try {
      const { directory } = host.qemuSettings.services.migrate;
      const user = await qemuUser();
      return await makeHandshakes({
        context,
        order,
        peer,
        list,
        signal,
        qemu: { directory, version: host.qemu.version, user, crl },
        libvirtVersion: host.libvirt.version,
      });
    } catch (error) {
      if (signal.aborted) throw error;
      list.error(
        'handshake.failed',
        `${order.own} could not make its handshakes with ${order.peer}: ${clean(describeError(error))}`,
        `see what its agent says: journalctl -u virt-trust-agent on ${order.own}`,
      );
      return [];
    } finally {
      peer?.close();
    }
  }
}

const LIBVIRT_FIX = 'see its log: journalctl -u libvirtd (virtqemud)';

/** The one by which libvirt tells two hosts apart; empty where it does not answer. */
async function readHostUuid(libvirt: LibvirtQuestions, list: FindingList, own: string): Promise<string> {
  try {
    return parseCapabilities(await libvirt.ask(['capabilities'])).hostUuid ?? '';
  } catch (error) {
    list.error('libvirt.refused', `libvirt of ${own} does not answer: ${wordsOf(error)}`, LIBVIRT_FIX);
    return '';
  }
}

/** userfaultfd(2): open to all by sysctl, or to the QEMU user by the device. */
async function readUserfaultfd(): Promise<boolean | null> {
  const text = await readFile('/proc/sys/vm/unprivileged_userfaultfd', 'utf8').catch(() => undefined);
  if (text === undefined) return null;
  if (text.trim() === '1') return true;
  const device = await stat('/dev/userfaultfd').catch(() => undefined);
  return device !== undefined && (device.mode & 0o006) === 0o006;
}
