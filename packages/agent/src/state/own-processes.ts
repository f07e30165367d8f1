import { spawn } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
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
  /** Processes that systemd named, by id, with when they began: where one is there still, systemd need not be asked. */
  const known = new Map<string, { readonly pid: string; readonly began: string }>();
  const isRunning = async (id: string) => {
    const before = known.get(id);
    if (before !== undefined && (await beginOf(paths, before.pid)) === before.began) return true;
    known.delete(id);
    const { stdout } = await run('systemctl', ['show', '--property=ActiveState,MainPID', nameOf(id)]);
    const property = (name: string) => new RegExp(`^${name}=(.+)$`, 'm').exec(stdout)?.[1] ?? '';
    const pid = property('MainPID');
    const began = await beginOf(paths, pid);
    if (began !== undefined) known.set(id, { pid, began });
    return ['active', 'activating', 'reloading', 'deactivating'].includes(property('ActiveState'));
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
      known.delete(id);
      // Not there is fine.
      await run('systemctl', ['stop', nameOf(id)], { acceptedCodes: [5] });
    },
  };
}

/** When a process began, in ticks since the machine did (proc_pid_stat(5)); undefined where it is none, or has ended. */
async function beginOf(paths: AgentPaths, pid: string): Promise<string | undefined> {
  if (!/^[1-9][0-9]*$/.test(pid)) return undefined;
  const text = await readFile(paths.at(`/proc/${pid}/stat`), 'utf8').catch(() => '');
  const [state, ...rest] = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return state === undefined || 'ZX'.includes(state) ? undefined : rest[18];
}

/** How this program was started: a single executable, or Node with a script. */
export function thisProgram(): string[] {
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
