import { stat } from 'node:fs/promises';
import { type RunHostCommand, which } from './host-command.ts';

/** Whether one daemon serves all of libvirt, or one for each driver. */
export type DaemonMode = 'monolithic' | 'modular';

/** systemctl's exit code where a unit of those asked for is not active. */
const NOT_ACTIVE = 3;

/** Which daemons serve libvirt on the host; undefined where it is not installed. */
export async function readDaemonMode(run: RunHostCommand): Promise<DaemonMode | undefined> {
  const [monolithic, modular] = await Promise.all([which('libvirtd'), which('virtqemud')]);
  if (monolithic === undefined) return modular === undefined ? undefined : 'modular';
  if (modular === undefined) return 'monolithic';
  for (const verb of ['is-active', 'is-enabled']) {
    if (await says(run, verb, ['libvirtd.service', 'libvirtd.socket'])) return 'monolithic';
    if (await says(run, verb, ['virtqemud.service', 'virtqemud.socket'])) return 'modular';
  }
  return 'monolithic';
}

async function says(run: RunHostCommand, verb: string, units: string[]): Promise<boolean> {
  const { stdout } = await run('systemctl', [verb, ...units], { acceptedCodes: [1, NOT_ACTIVE, 4] });
  return stdout.split('\n').some((line) => line === 'active' || line === 'enabled');
}

/** A version out of what a program's `--version` prints. */
export function parseProgramVersion(output: string): string | undefined {
  return /(?:^|[\s(])(\d{1,3}\.\d{1,3}\.\d{1,3})(?![\d.])/.exec(output.slice(0, 1000))?.[1];
}

/** What programs said, by which file they are: one job asks for the same version many times, and QEMU takes long to start. */
const said = new WeakMap<RunHostCommand, Map<string, Promise<string>>>();

/** The version that the first of the installed programs says. */
export async function readProgramVersion(
  run: RunHostCommand,
  programs: readonly string[],
): Promise<string | undefined> {
  for (const name of programs) {
    const program = await which(name);
    if (program === undefined) continue;
    const version = parseProgramVersion(await sayVersion(run, program));
    if (version !== undefined) return version;
  }
  return undefined;
}

async function sayVersion(run: RunHostCommand, program: string): Promise<string> {
  const answers = said.get(run) ?? new Map<string, Promise<string>>();
  said.set(run, answers);
  // An upgrade makes another file of it, or changes it.
  const { dev, ino, size, mtimeNs, ctimeNs } = await stat(program, { bigint: true });
  const file = [program, dev, ino, size, mtimeNs, ctimeNs].join(' ');
  const before = answers.get(file);
  if (before !== undefined) return await before;
  for (const other of answers.keys()) if (other.startsWith(`${program} `)) answers.delete(other);
  const answer = run(program, ['--version']).then(({ stdout }) => stdout.slice(0, 1000));
  answers.set(file, answer);
  return await answer.catch((error: unknown) => {
    answers.delete(file);
    throw error;
  });
}
