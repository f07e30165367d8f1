import { machine } from 'node:os';
import type { Clock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import { parseCapabilities } from '@virt-trust/check/host/capabilities.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { readDaemonMode, readProgramVersion } from '@virt-trust/check/host/libvirt-daemons.ts';
import { readQemuProcesses } from '@virt-trust/check/host/qemu-process.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { parseConfiguration } from '@virt-trust/libvirt/configuration.ts';
import { LIBVIRT_TLS_PORT } from '@virt-trust/libvirt/layout.ts';
import { type RpcDaemon, readLibvirtdSettings } from '@virt-trust/libvirt/libvirtd-settings.ts';
import { readQemuSettings } from '@virt-trust/libvirt/qemu-settings.ts';
import type { Firewall } from '../firewall/firewall.ts';
import { lookAtEndpoints } from '../served/look.ts';
import { RpcDaemonUnits } from '../services/daemon.ts';
import type { DaemonTarget, Expectation, HostEffects, HostFacts } from '../services/host-effects.ts';
import { proveLibvirt } from '../services/libvirt.ts';
import { letClientsIn, reloadLibvirt } from '../services/libvirt-reload.ts';
import { proveMigration } from '../services/migration.ts';
import { readOwnAddresses } from '../services/reach.ts';
import { arrived, nextVmChange, readRunningMigrations } from '../services/running-migrations.ts';
import type { Where } from '../services/sighting.ts';
import { proveSpice } from '../services/spice.ts';
import { staleDevices } from '../services/stale-devices.ts';
import { proveStorage } from '../services/storage.ts';
import { proveVnc, reloadVnc } from '../services/vnc.ts';
import type { ConsoleListening } from '../sets/console-settings.ts';
import { readFileIfPresent } from '../state/atomic-file.ts';
import type { AgentPaths } from '../state/paths.ts';
import { forbidReading, permitReading } from './lsm.ts';

const OPENINGS = { libvirt: 'libvirt-tls', migration: 'migration', display: 'display' } as const;

/** Of the 60,000 that libvirt may take, where the host does not bound them itself. */
const DISPLAY_PORTS_OPENED = 100;

/** The host itself: its daemon, VMs, firewall and security module. */
export class SystemEffects implements HostEffects {
  readonly #paths: AgentPaths;
  readonly #run: RunHostCommand;
  readonly #firewall: Firewall;
  readonly #clock: Clock;
  #qemuUser: { uid: number; gid: number } | undefined;

  constructor(parts: {
    readonly paths: AgentPaths;
    readonly run: RunHostCommand;
    readonly firewall: Firewall;
    readonly clock: Clock;
  }) {
    this.#paths = parts.paths;
    this.#run = parts.run;
    this.#firewall = parts.firewall;
    this.#clock = parts.clock;
  }

  async facts(): Promise<HostFacts> {
    const run = this.#run;
    const daemon = await this.#daemon();
    const [libvirtVersion, qemuVersion, user, units, processes, inet6] = await Promise.all([
      readProgramVersion(run, ['libvirtd', 'virtqemud', 'virsh']),
      readProgramVersion(run, [`qemu-system-${machine()}`, 'qemu-kvm']),
      this.qemuUser(),
      new RpcDaemonUnits(run, daemon).state(),
      readQemuProcesses(this.#paths),
      readFileIfPresent(this.#paths.at('/proc/net/if_inet6')),
    ]);
    if (libvirtVersion === undefined || qemuVersion === undefined) throw missing();
    const { here, arriving } = await arrived(this.#paths, run, processes);
    return {
      daemon,
      listening: units.listening,
      // proc_net(5): not there on a kernel without IPv6.
      ipv6: inet6 !== undefined,
      libvirtVersion,
      qemuVersion,
      qemuUid: user.uid,
      qemuGid: user.gid,
      sockets: units.sockets,
      vms: here.map(({ uuid, name, vnc, spice }) => ({ uuid, name, vnc, spice })),
      staleDevices: await staleDevices(this.#paths, processes, arriving).catch(() => []),
    };
  }

  async permitReading(): Promise<void> {
    await permitReading(this.#paths, this.#run);
  }

  async forbidReading(): Promise<void> {
    await forbidReading(this.#paths, this.#run);
  }

  async migrations() {
    return await readRunningMigrations(this.#paths, this.#run);
  }

  async migrationsChange(signal: AbortSignal): Promise<void> {
    await nextVmChange(this.#paths, signal);
  }

  async bringDaemon(target: DaemonTarget): Promise<void> {
    await new RpcDaemonUnits(this.#run, await this.#daemon()).bring(target);
  }

  async openPorts(services: readonly Service[], consoles: ConsoleListening): Promise<void> {
    // Displays are left as the administrator has them, unless he has us let clients to them.
    if (consoles === 'keep') await this.#firewall.close(OPENINGS.display);
    else {
      const { remoteDisplayPortMin: from, remoteDisplayPortMax: max } = await this.#qemuSettings();
      // libvirt takes the lowest that is free.
      const to = Math.min(max, from + DISPLAY_PORTS_OPENED - 1);
      await this.#firewall.open({ what: OPENINGS.display, ports: [{ from, to }], from: null });
    }
    if (services.includes('libvirt')) {
      const port = await this.#tlsPort();
      await this.#firewall.open({ what: OPENINGS.libvirt, ports: [{ from: port, to: port }], from: null });
    }
    if (services.includes('migration')) {
      const { migrationPortMin: from, migrationPortMax: to } = await this.#qemuSettings();
      await this.#firewall.open({ what: OPENINGS.migration, ports: [{ from, to }], from: null });
    }
  }

  async closePorts(): Promise<void> {
    for (const what of Object.values(OPENINGS)) await this.#firewall.close(what);
  }

  async letClientsIn(): Promise<boolean> {
    return await letClientsIn(this.#run, await this.#daemon());
  }

  async reload(service: Service, facts: HostFacts): Promise<void> {
    switch (service) {
      case 'libvirt':
        return await reloadLibvirt(this.#run, facts.daemon);
      case 'migration':
        // Files are read anew for every migration.
        return;
      case 'vnc':
        return await reloadVnc(this.#run, facts);
      case 'spice':
        // Loaded once, when a VM starts; running ones go on with what they have.
        return;
      case 'nbd':
        // Read when a disk is attached; attached ones go on with what they have.
        return;
      case 'backup':
        // Read anew for every job.
        return;
    }
  }

  async runningVms() {
    const { here } = await arrived(this.#paths, this.#run, await readQemuProcesses(this.#paths));
    return here.map(({ uuid, name, vnc, spice }) => ({
      uuid,
      name,
      vnc,
      spice,
    }));
  }

  async look(where: Where, { vms }: HostFacts) {
    const tlsPort = await this.#tlsPort();
    return await lookAtEndpoints({
      ...where,
      isOwn: await readOwnAddresses(this.#run),
      tlsPort,
      vms,
      clock: this.#clock,
    });
  }

  async digestsForQemu(
    files: readonly string[],
    { qemuUid: uid, qemuGid: gid }: Pick<HostFacts, 'qemuUid' | 'qemuGid'>,
  ) {
    const { stdout } = await this.#run('sha256sum', ['--', ...files], { uid, gid, acceptedCodes: [1] });
    return new Map(
      stdout.split('\n').flatMap((text) => {
        const found = /^([0-9a-f]{64}) [ *](.+)$/.exec(text);
        return found === null ? [] : [[found[2] as string, found[1] as string] as const];
      }),
    );
  }

  async prove(service: Service, expectation: Expectation) {
    switch (service) {
      case 'libvirt':
        return await proveLibvirt(expectation, this.#run, this.#clock, await this.#tlsPort());
      case 'migration':
        return await proveMigration(this.#paths, this.#run, expectation, this.#clock);
      case 'vnc':
        return await proveVnc(expectation, this.#run, this.#clock);
      case 'spice':
        return await proveSpice(this.#paths, this.#run, expectation, this.#clock);
      case 'nbd':
      case 'backup':
        return await proveStorage(service, this.#paths, this.#run, expectation, this.#clock);
    }
  }

  async #daemon(): Promise<RpcDaemon> {
    const mode = await readDaemonMode(this.#run);
    if (mode === undefined) throw missing();
    return mode === 'modular' ? 'virtproxyd' : 'libvirtd';
  }

  /** User and group of QEMU processes as libvirt itself says them; they do not change while the agent runs. */
  async qemuUser(): Promise<{ uid: number; gid: number }> {
    if (this.#qemuUser !== undefined) return this.#qemuUser;
    const answer = await this.#run('virsh', ['-c', 'qemu:///system', 'capabilities']).catch(() => undefined);
    const known = answer === undefined ? undefined : parseCapabilities(answer.stdout).qemu;
    if (known !== undefined) {
      this.#qemuUser = known;
      return known;
    }
    for (const name of ['libvirt-qemu', 'qemu']) {
      const { stdout } = await this.#run('getent', ['passwd', name], { acceptedCodes: [2] });
      const found = /^[^:]*:[^:]*:(\d{1,10}):(\d{1,10}):/.exec(stdout);
      if (found === null) continue;
      const group = await this.#run('getent', ['group', name], { acceptedCodes: [2] });
      const gid = /^[^:]*:[^:]*:(\d{1,10}):/.exec(group.stdout)?.[1] ?? found[2];
      return { uid: Number(found[1]), gid: Number(gid) };
    }
    throw missing();
  }

  async #tlsPort(): Promise<number> {
    const daemon = await this.#daemon();
    const { tlsPort } = readLibvirtdSettings(await this.#configuration(`${daemon}.conf`), daemon);
    // With systemd's sockets the unit says the port, which is the usual one unless somebody overrides it.
    return /^\d{1,5}$/.test(tlsPort) ? Number(tlsPort) : LIBVIRT_TLS_PORT;
  }

  async #qemuSettings() {
    return readQemuSettings(await this.#configuration('qemu.conf'), () => false);
  }

  async #configuration(name: string) {
    const path = `/etc/libvirt/${name}`;
    return parseConfiguration((await readFileIfPresent(this.#paths.at(path))) ?? '', path);
  }
}

function missing(): TrustError {
  return new TrustError(
    'libvirt.missing',
    'failed',
    'cannot secure this host: libvirt or QEMU is not installed',
    {
      hint: 'install them (Debian: apt install libvirt-daemon-system qemu-system-x86 qemu-utils), then provision the host again',
    },
  );
}
