import { TrustError } from '@virt-trust/base/error.ts';
import { type Capabilities, parseCapabilities } from '@virt-trust/check/host/capabilities.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { lineOf } from '@virt-trust/check/host/text.ts';
import type { LibvirtFacts } from '@virt-trust/contract/model/inventory.ts';
import { LIBVIRT_TCP_PORT, LIBVIRT_TLS_PORT } from '@virt-trust/libvirt/layout.ts';
import type { EffectiveSettings } from './settings.ts';
import type { LibvirtPorts } from './sockets.ts';

const URI = ['-c', 'qemu:///system'];
const TIMEOUT_MS = 20_000;

/** What the running daemon says; undefined where it does not answer. */
export interface RunningLibvirt {
  readonly version: string | undefined;
  readonly qemuVersion: string | undefined;
  readonly capabilities: Capabilities;
  readonly definedVms: number;
  readonly pausedVms: ReadonlySet<string>;
}

/** Between the answers: a line that is none of them, since no name of a VM has a slash. */
const BETWEEN = '/';
const QUESTIONS = ['version --daemon', 'capabilities', 'list --all --name', 'list --state-paused --uuid'];

/** Asks the daemon over its local socket, all at once: a virsh takes more than its answer. Throws where it does not answer. */
export async function readRunningLibvirt(run: RunHostCommand): Promise<RunningLibvirt> {
  const script = QUESTIONS.join(`; echo ${BETWEEN}; `);
  const { stdout } = await run('virsh', [...URI, script], { timeoutMs: TIMEOUT_MS });
  return parseAnswers(stdout);
}

/** Reads what virsh answers to the questions; throws where it left one out, which it does where libvirt refuses. */
export function parseAnswers(output: string): RunningLibvirt {
  const answers: string[][] = [[]];
  for (const line of output.split('\n'))
    if (line.trim() === BETWEEN) answers.push([]);
    else answers.at(-1)?.push(line.trim());
  const [version, capabilities, names, paused] = answers.map((lines) => lines.join('\n'));
  if (version === undefined || !capabilities?.trim() || names === undefined || paused === undefined)
    throw new TrustError(
      'inventory.no_answer',
      'unavailable',
      'cannot ask libvirt: it leaves questions open',
    );
  return {
    ...parseVersions(version),
    capabilities: parseCapabilities(capabilities),
    definedVms: names.split('\n').filter((line) => line !== '').length,
    pausedVms: new Set(paused.split('\n').filter((line) => line !== '')),
  };
}

/** Reads the output of `virsh version --daemon`. */
export function parseVersions(output: string): {
  version: string | undefined;
  qemuVersion: string | undefined;
} {
  return {
    version: /^Running against daemon: (\d{1,3}\.\d{1,3}\.\d{1,3})$/m.exec(output)?.[1],
    qemuVersion: /^Running hypervisor: QEMU (\d{1,3}\.\d{1,3}\.\d{1,3})$/m.exec(output)?.[1],
  };
}

/** The ports that the configuration gives libvirt's RPC; names of services count as the usual ports. */
export function portsOf({ libvirtd }: EffectiveSettings): LibvirtPorts {
  const port = (text: string, usual: number) =>
    /^\d{1,5}$/.test(text) && Number(text) <= 65_535 ? Number(text) : usual;
  return { tls: port(libvirtd.tlsPort, LIBVIRT_TLS_PORT), tcp: port(libvirtd.tcpPort, LIBVIRT_TCP_PORT) };
}

/** Puts together what is known of the host's libvirt. */
export function libvirtFacts(parts: {
  readonly daemonMode: LibvirtFacts['daemonMode'];
  readonly version: string;
  readonly running: RunningLibvirt | undefined;
  readonly settings: EffectiveSettings;
  readonly listening: ReadonlySet<number>;
  readonly runningVms: number;
}): LibvirtFacts {
  const { libvirtd, qemu } = parts.settings;
  const ports = portsOf(parts.settings);
  const tcpListening = parts.listening.has(ports.tcp);
  return {
    version: parts.version,
    daemonMode: parts.daemonMode,
    running: parts.running !== undefined,
    hostUuid: lineOf(parts.running?.capabilities.hostUuid ?? libvirtd.hostUuid ?? ''),
    tlsListening: parts.listening.has(ports.tls),
    tcpListening,
    authTls: lineOf(libvirtd.authTls),
    sasl: libvirtd.authTls === 'sasl' || (tcpListening && libvirtd.authTcp === 'sasl'),
    allowedDns: libvirtd.tlsAllowedDnList?.slice(0, 256).map((dn) => lineOf(dn)) ?? null,
    migrateTlsForce: qemu.migrateTlsForce,
    vncTls: qemu.services.vnc.tls ?? false,
    vncTlsVerify: qemu.services.vnc.verify ?? false,
    spiceTls: qemu.services.spice.tls ?? false,
    definedVms: parts.running?.definedVms ?? parts.runningVms,
  };
}
