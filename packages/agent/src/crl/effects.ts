import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { readDaemonMode, readProgramVersion } from '@virt-trust/check/host/libvirt-daemons.ts';
import { readQemuProcesses } from '@virt-trust/check/host/qemu-process.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { type RpcDaemon, readLibvirtdSettings } from '@virt-trust/libvirt/libvirtd-settings.ts';
import { RpcDaemonUnits } from '../apply/daemon.ts';
import { reloadLibvirt } from '../apply/services/libvirt-reload.ts';
import { reloadVnc } from '../apply/services/vnc.ts';
import { readHostConfiguration } from '../apply/settings-files.ts';
import type { AgentPaths } from '../paths.ts';
import { cutSessions, listSessions, type Session } from './sessions.ts';

/** What a CRL does to a host beside its files; replaced in tests of what files are left. */
export interface CrlEffects {
  /** Has whoever reads a service's CRL now read it again. */
  load(service: Service): Promise<void>;
  /** Whether the RPC daemon is stopped, sockets included, so that nothing has a CRL loaded. */
  stopped(): Promise<boolean>;
  sessions(): Promise<Session[]>;
  cut(sessions: readonly Session[]): Promise<void>;
  /** Whether a session without a subject can only be one whose handshake is under way. */
  namesEverySession(): Promise<boolean>;
}

/** The host itself. */
export class SystemCrlEffects implements CrlEffects {
  readonly #paths: AgentPaths;
  readonly #run: RunHostCommand;

  constructor(paths: AgentPaths, run: RunHostCommand) {
    this.#paths = paths;
    this.#run = run;
  }

  async load(service: Service): Promise<void> {
    // Migrations, backups and NBD servers read their files each time; SPICE reads no CRL.
    if (service === 'libvirt') await reloadLibvirt(this.#run, await this.#daemon());
    if (service === 'vnc') await this.#loadVnc();
  }

  async stopped(): Promise<boolean> {
    return await new RpcDaemonUnits(this.#run, await this.#daemon()).stopped();
  }

  async sessions(): Promise<Session[]> {
    return await listSessions(this.#run, await this.#daemon());
  }

  async cut(sessions: readonly Session[]): Promise<void> {
    await cutSessions(this.#run, await this.#daemon(), sessions);
  }

  /** Without verification clients have no name at all, and with SASL one who types a password has none yet. */
  async namesEverySession(): Promise<boolean> {
    const daemon = await this.#daemon();
    const configuration = await readHostConfiguration(this.#paths, `/etc/libvirt/${daemon}.conf`);
    const { tlsNoVerifyCertificate, authTls } = readLibvirtdSettings(configuration, daemon);
    return !tlsNoVerifyCertificate && authTls === 'none';
  }

  /** A VNC server that asks viewers for no certificate never looks at a CRL: there, a reload would be for nothing. */
  async #loadVnc(): Promise<void> {
    const vms = (await readQemuProcesses(this.#paths)).filter((process) => process.verifiesVncClients);
    if (vms.length === 0) return;
    const libvirtVersion = await readProgramVersion(this.#run, ['libvirtd', 'virtqemud', 'virsh']);
    await reloadVnc(this.#run, { vms, libvirtVersion: libvirtVersion ?? '0.0.0' });
  }

  async #daemon(): Promise<RpcDaemon> {
    return (await readDaemonMode(this.#run)) === 'modular' ? 'virtproxyd' : 'libvirtd';
  }
}
