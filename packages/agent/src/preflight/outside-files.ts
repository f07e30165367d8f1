import { stat } from 'node:fs/promises';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { thisProgram } from '../state/own-processes.ts';
import type { AgentPaths } from '../state/paths.ts';
import { type FilesQuestion, type FilesSeen, lookAtFiles } from './host-files.ts';

export type LookAtFiles = (question: FilesQuestion, signal: AbortSignal) => Promise<FilesSeen>;

/** It reads, and tries as QEMU's user whether a file is open to that. */
const PROPERTIES = [
  'UMask=0077',
  'LimitCORE=0',
  'CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_KILL CAP_SETGID CAP_SETUID',
  'NoNewPrivileges=yes',
  'SystemCallArchitectures=native',
  'RestrictAddressFamilies=AF_UNIX',
  'RestrictNamespaces=yes',
  'RestrictRealtime=yes',
  'LockPersonality=yes',
  'TimeoutStopSec=5',
  'RuntimeMaxSec=60',
];

/**
 * Looks at files as libvirt and QEMU see them: the agent itself has /home, /tmp and /dev of its own, and everything
 * read-only (systemd.exec(5)), so a process outside of that looks. Where there is no systemd, this one does.
 */
export function filesOfHost(paths: Pick<AgentPaths, 'at'>, run: RunHostCommand): LookAtFiles {
  return async (question, signal) => {
    const { disks, others, directories } = question;
    const isAsked = disks.length + others.length + directories.length > 0;
    if (!isAsked || !(await hasSystemd(paths))) return await lookAtFiles(question);
    const { stdout } = await run(
      'systemd-run',
      [
        '--quiet',
        '--collect',
        '--pipe',
        '--wait',
        '--description=virt-trust: a look at the disks of a VM',
        ...PROPERTIES.map((property) => `--property=${property}`),
        '--',
        ...thisProgram(),
        'agent',
        'look',
      ],
      { stdin: JSON.stringify(question), signal },
    );
    return JSON.parse(stdout) as FilesSeen;
  };
}

function hasSystemd(paths: Pick<AgentPaths, 'at'>): Promise<boolean> {
  return stat(paths.at('/run/systemd/system')).then(
    () => true,
    () => false,
  );
}

/** What `virt-trust agent look` does: a question on standard input, what was seen on standard output. */
export async function lookForAgent(input: AsyncIterable<string | Uint8Array>): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of input) parts.push(Buffer.from(part));
  return JSON.stringify(await lookAtFiles(JSON.parse(Buffer.concat(parts).toString('utf8'))));
}
