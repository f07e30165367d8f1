import { spawn } from 'node:child_process';
import { stat } from 'node:fs/promises';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import type { AgentPaths } from './paths.ts';

/**
 * What a process of a migration may do on the host (systemd.exec(5)): less than the agent itself. DAC_OVERRIDE and CHOWN
 * are for sockets that QEMU's user must reach.
 */
const PROPERTIES = [
  'UMask=0077',
  'LimitCORE=0',
  'Restart=on-failure',
  'RestartSec=1',
  'CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER',
  'NoNewPrivileges=yes',
  'SystemCallArchitectures=native',
  'RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK',
  'RestrictNamespaces=yes',
  'RestrictRealtime=yes',
  'LockPersonality=yes',
  'ProtectSystem=strict',
  'ReadWritePaths=/run /var/lib/virt-trust',
  'ProtectHome=yes',
  'PrivateTmp=yes',
  'ProtectKernelLogs=yes',
  'ProtectKernelModules=yes',
  'ProtectKernelTunables=yes',
  'ProtectControlGroups=yes',
];

/** Processes of this program that outlive the agent: its end, its upgrade and its death end no migration. */
export interface OwnProcesses {
  /** Starts `virt-trust agent WORD ID`; one that runs already is left to run. */
  start(id: string): Promise<void>;
  isRunning(id: string): Promise<boolean>;
  /** Ends it, and whatever systemd would start again. */
  stop(id: string): Promise<void>;
}

/** As transient units of systemd, `UNIT-ID`; where there is no systemd, as processes of their own. */
export async function ownProcesses(
  paths: AgentPaths,
  run: RunHostCommand,
  { word, unit }: { readonly word: string; readonly unit: string },
): Promise<OwnProcesses> {
  const hasSystemd = await stat(paths.at('/run/systemd/system')).then(
    () => true,
    () => false,
  );
  const command = [...thisProgram(), 'agent', word];
  if (!hasSystemd) return detached(command);
  const nameOf = (id: string) => `${unit}-${id}.service`;
  const isRunning = async (id: string) => {
    const { stdout } = await run('systemctl', ['show', '--property=ActiveState', '--value', nameOf(id)]);
    return ['active', 'activating', 'reloading', 'deactivating'].includes(stdout.trim());
  };
  return {
    isRunning,
    async start(id) {
      if (await isRunning(id)) return;
      await run('systemd-run', [
        '--quiet',
        '--collect',
        `--unit=${nameOf(id)}`,
        `--description=virt-trust: migration ${id}`,
        ...PROPERTIES.map((property) => `--property=${property}`),
        '--',
        ...command,
        id,
      ]);
    },
    async stop(id) {
      // Not there is fine.
      await run('systemctl', ['stop', nameOf(id)], { acceptedCodes: [5] });
    },
  };
}

/** How this program was started: a single executable, or Node with a script. */
function thisProgram(): string[] {
  const script = process.argv[1];
  const isScript = script !== undefined && /\.(?:m?js|ts)$/.test(script);
  return isScript ? [process.execPath, ...process.execArgv, script] : [process.execPath];
}

function detached([program = '', ...args]: readonly string[]): OwnProcesses {
  const running = new Map<string, number>();
  const alive = (pid: number) => {
    try {
      process.kill(pid, 0);
      return true;
    } catch {
      return false;
    }
  };
  return {
    async isRunning(id) {
      const pid = running.get(id);
      return pid !== undefined && alive(pid);
    },
    async start(id) {
      const pid = running.get(id);
      if (pid !== undefined && alive(pid)) return;
      const child = spawn(program, [...args, id], { detached: true, stdio: 'ignore' });
      child.once('error', () => {});
      child.once('exit', () => running.delete(id));
      child.unref();
      if (child.pid !== undefined) running.set(id, child.pid);
    },
    async stop(id) {
      const pid = running.get(id);
      if (pid !== undefined && alive(pid)) process.kill(pid, 'SIGTERM');
    },
  };
}
