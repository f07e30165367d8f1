import { join } from 'node:path';
import { sha256Hex } from '@virt-trust/base/digest.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { readDaemonMode, readProgramVersion } from '@virt-trust/check/host/libvirt-daemons.ts';
import { type QemuProcess, readQemuProcesses } from '@virt-trust/check/host/qemu-process.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { type RpcDaemon, readLibvirtdSettings } from '@virt-trust/libvirt/libvirtd-settings.ts';
import { RpcDaemonUnits } from '../services/daemon.ts';
import { reloadLibvirt } from '../services/libvirt-reload.ts';
import { arrived } from '../services/running-migrations.ts';
import { cutSessions, listSessions, type Session } from '../services/sessions.ts';
import { reloadVnc } from '../services/vnc.ts';
import { readHostConfiguration } from '../sets/settings-files.ts';
import { readFileIfPresent } from '../state/atomic-file.ts';
import type { AgentPaths } from '../state/paths.ts';

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
  /** VMs that could not load a CRL because they arrived by migration. */
  #late: { readonly crl: string; readonly vms: ReadonlySet<string> } = { crl: '', vms: new Set() };

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
    const all = (await readQemuProcesses(this.#paths)).filter((process) => process.verifiesVncClients);
    const { here, arriving } = await arrived(this.#paths, this.#run, all);
    // Those that were here the last time this very CRL was loaded have it.
    const crl = await this.#digestOfVncCrl();
    const again = crl === this.#late.crl && this.#late.vms.size > 0;
    const vms = again ? here.filter(({ uuid }) => this.#late.vms.has(uuid)) : here;
    if (vms.length > 0) await this.#reloadVnc(vms);
    const late = all.filter((vm) => arriving.includes(vm));
    this.#late = { crl, vms: new Set(late.map(({ uuid }) => uuid)) };
    if (late.length === 0) return;
    const names = late.map(({ name }) => name).join(', ');
    throw new TrustError(
      'vnc.arriving',
      'unavailable',
      `cannot load the CRL of VNC in ${names.slice(0, 500)} yet: it arrives by migration; once it has, it is loaded`,
    );
  }

  async #digestOfVncCrl(): Promise<string> {
    const bytes = await readFileIfPresent(join(this.#paths.services, 'vnc', 'crl.pem'));
    return bytes === undefined ? '' : sha256Hex(bytes);
  }

  async #reloadVnc(vms: readonly QemuProcess[]): Promise<void> {
    const libvirtVersion = await readProgramVersion(this.#run, ['libvirtd', 'virtqemud', 'virsh']);
    await reloadVnc(this.#run, { vms, libvirtVersion: libvirtVersion ?? '0.0.0' });
  }

  async #daemon(): Promise<RpcDaemon> {
    return (await readDaemonMode(this.#run)) === 'modular' ? 'virtproxyd' : 'libvirtd';
  }
}
