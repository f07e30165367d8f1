import { readFile, stat } from 'node:fs/promises';
import { describeError } from '@virt-trust/base/error.ts';
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
import { isNewer, startOf } from '../capabilities/in-force.ts';
import { PLACES, QEMU_CONFIGURATION } from '../capabilities/look.ts';
import { crlDocument } from '../crl/record.ts';
import { peerClient } from '../peers/peer-client.ts';
import type { AgentContext } from '../ports/agent-context.ts';
import type { Grants } from '../ports/grants.ts';
import type { Preflights } from '../ports/preflights.ts';
import type { QemuUser } from '../services/qemu-process.ts';
import { clean, FindingList } from './finding-list.ts';
import { HandshakeServers } from './handshake-servers.ts';
import { makeHandshakes } from './handshakes.ts';
import { LibvirtQuestions, wordsOf } from './libvirt-questions.ts';
import { optionFindings } from './option-checks.ts';
import { filesOfHost } from './outside-files.ts';
import { ownFindings } from './own-side.ts';
import { checkVm, LIBVIRT_FIX } from './vm-preflight.ts';

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
    const { context, capabilities, qemuUser } = this.#parts;
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
      checkVm({
        ...{ order, libvirt, list, run: context.run, signal, qemuUser },
        reader: host.qemuUser,
        files: filesOfHost(context.paths, context.run),
      }),
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
