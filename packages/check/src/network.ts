import { readFile } from 'node:fs/promises';
import { LIBVIRT_TCP_PORT, LIBVIRT_TLS_PORT } from '@virt-trust/libvirt/layout.ts';
import { runHostCommand } from './host/host-command.ts';
import { readListeningPorts } from './host/sockets.ts';
import type { HostFacts } from './host-facts.ts';
import type { CheckFinding } from './report.ts';

/** How libvirt's RPC is reached over the network. */
export interface NetworkState {
  /** Whether TLS is switched on, by a socket unit, by `--listen`, or as something listens. */
  readonly tls: 'on' | 'off';
  readonly tlsPort: number;
  readonly listening: ReadonlySet<number>;
  readonly findings: readonly CheckFinding[];
}

/** Looks at socket units, command lines and ports; systemd's ListenStream decides the port, not the configuration. */
export async function readNetwork(facts: HostFacts): Promise<NetworkState> {
  const { daemon, libvirtd } = facts;
  const findings: CheckFinding[] = [];
  const [tlsUnit, tcpUnit, mainActive, listening, listenOption] = await Promise.all([
    readSocketUnit(`${daemon}-tls.socket`),
    readSocketUnit(`${daemon}-tcp.socket`),
    isActive(`${daemon}.socket`),
    readListeningPorts(runHostCommand).catch(() => new Set<number>()),
    readListenOption(daemon),
  ]);
  const configured = portOf(libvirtd.tlsPort, LIBVIRT_TLS_PORT);
  const tlsPort = tlsUnit.on ? (tlsUnit.port ?? configured) : configured;
  const unit = `${daemon}-tls.socket`;
  if (listenOption && mainActive) {
    findings.push({
      severity: 'error',
      code: 'network.listen_and_sockets',
      file: listenOption,
      text: `${daemon} is given --listen although ${daemon}.socket is active: it does not start`,
      remedy: `take --listen out of ${listenOption}; then systemctl stop ${daemon}.service && systemctl enable --now ${unit} && systemctl start ${daemon}.service`,
    });
  }
  if (tlsUnit.on && tlsUnit.port !== undefined && tlsUnit.port !== configured) {
    findings.push({
      severity: 'warning',
      code: 'network.port_differs',
      file: facts.daemonFile,
      text: `tls_port is ${libvirtd.tlsPort}, and the socket unit listens on ${tlsUnit.port}, which is what counts`,
      remedy: `systemctl edit ${unit} (ListenStream=), or set tls_port to ${tlsUnit.port}`,
    });
  }
  if (listenOption === undefined && tlsUnit.disabled && (tlsUnit.on || listening.has(tlsPort))) {
    findings.push({
      severity: 'warning',
      code: 'network.not_at_boot',
      file: unit,
      text: `port ${tlsPort} is served now, and ${unit} is disabled: after the next start nobody reaches this host over TLS`,
      remedy: `systemctl enable ${unit}`,
    });
  }
  const tcpPort = tcpUnit.port ?? portOf(libvirtd.tcpPort, LIBVIRT_TCP_PORT);
  if (tcpUnit.on || (listenOption !== undefined && libvirtd.listenTcp)) {
    const open =
      libvirtd.authTcp === 'none' ? ' and nobody has to log in: whoever reaches it is root here' : '';
    findings.push({
      severity: 'warning',
      code: 'network.plain_tcp',
      file: tcpUnit.on ? `${daemon}-tcp.socket` : facts.daemonFile,
      text: `libvirt listens without TLS on port ${tcpPort}${open}`,
      remedy: `systemctl disable --now ${daemon}-tcp.socket, and set listen_tcp = 0 in ${facts.daemonFile}`,
    });
  }
  const on = tlsUnit.on || (listenOption !== undefined && libvirtd.listenTls) || listening.has(tlsPort);
  if (on && !listening.has(tlsPort) && listening.size > 0) {
    findings.push({
      severity: 'error',
      code: 'network.not_listening',
      file: unit,
      text: `TLS is switched on, and nothing listens on port ${tlsPort}: no client reaches this host`,
      remedy: `systemctl status ${unit} ${daemon}.service; journalctl -u ${daemon}.service`,
    });
  }
  return { tls: on ? 'on' : 'off', tlsPort, listening, findings };
}

interface SocketUnit {
  readonly on: boolean;
  readonly disabled: boolean;
  readonly port: number | undefined;
}

async function readSocketUnit(unit: string): Promise<SocketUnit> {
  try {
    const { stdout } = await runHostCommand('systemctl', [
      'show',
      '-p',
      'Listen,ActiveState,UnitFileState',
      unit,
    ]);
    const port = /^Listen=.*?(\d{1,5}) \(Stream\)/m.exec(stdout)?.[1];
    return {
      on: /^ActiveState=active$/m.test(stdout),
      disabled: /^UnitFileState=disabled$/m.test(stdout),
      port: port === undefined ? undefined : Number(port),
    };
  } catch {
    return { on: false, disabled: false, port: undefined };
  }
}

async function isActive(unit: string): Promise<boolean> {
  const { stdout } = await runHostCommand('systemctl', ['is-active', unit], { acceptedCodes: [3, 4] }).catch(
    () => ({ stdout: '' }),
  );
  return stdout.trim() === 'active';
}

/** The file that gives the daemon `--listen`. */
async function readListenOption(daemon: string): Promise<string | undefined> {
  for (const file of [`/etc/default/${daemon}`, `/etc/sysconfig/${daemon}`]) {
    const text = await readFile(file, 'utf8').catch(() => '');
    if (/^\s*(?:LIBVIRTD|VIRTPROXYD)_ARGS=.*(?:--listen|\s-[a-z]*l\b)/m.test(text)) return file;
  }
  return undefined;
}

function portOf(text: string, usual: number): number {
  return /^\d{1,5}$/.test(text) && Number(text) <= 65_535 ? Number(text) : usual;
}
