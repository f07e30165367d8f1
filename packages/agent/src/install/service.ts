import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { readFileIfPresent, removeFile, writeFileAtomic } from '../state/atomic-file.ts';
import type { AgentPaths } from '../state/paths.ts';

/** Something that an installation changed. */
export interface Change {
  readonly what: string;
  /** Whether the running agent has to be restarted to take it up. */
  readonly restart: boolean;
}

/** The agent's service in systemd's hands. */
export class Service {
  readonly #unit: string;
  readonly #paths: AgentPaths;
  readonly #run: RunHostCommand;
  /** Says that the running agent may not have taken up yet what was written. */
  readonly #marker: string;

  constructor(unit: string, paths: AgentPaths, run: RunHostCommand) {
    this.#unit = unit;
    this.#paths = paths;
    this.#run = run;
    this.#marker = join(paths.agent, 'restart-needed');
  }

  /** Notes before a change that the agent must be restarted after it, in this run or the next. */
  async unsettled(): Promise<void> {
    await writeFileAtomic(this.#marker, '', { mode: 0o600 });
  }

  /** The agent runs with all that was written. */
  async settled(): Promise<void> {
    if ((await readFileIfPresent(this.#marker)) !== undefined) await removeFile(this.#marker);
  }

  /** Has systemd know, enable and run the unit as it is on the disk; restarts it only where that is needed. */
  async bringUp(changed: boolean): Promise<Change[]> {
    const done: Change[] = [];
    const before = await this.#properties();
    if (changed || before.get('NeedDaemonReload') === 'yes' || before.get('LoadState') !== 'loaded')
      await this.#run('systemctl', ['daemon-reload']);
    if (!(await this.#isEnabled())) {
      // Links for the next boot, which systemd need not read now: another reload takes as long as the first.
      await this.#run('systemctl', ['enable', '--no-reload', this.#unit]);
      done.push({ what: `service ${this.#unit} enabled`, restart: false });
    }
    const pending = changed || (await readFileIfPresent(this.#marker)) !== undefined;
    const running = before.get('ActiveState') === 'active';
    if (!running || pending || !(await this.#runsTheProgram(Number(before.get('MainPID'))))) {
      await this.unsettled();
      await this.#run('systemctl', ['restart', this.#unit], { timeoutMs: 60_000 });
      done.push({ what: `service ${this.#unit} ${running ? 'restarted' : 'started'}`, restart: false });
    }
    return done;
  }

  /**
   * Stops the agent, which may be the very process that asks, after its unit's file is gone. No reload before it:
   * systemd would forget that /run/virt-trust goes with the service.
   */
  async stop(): Promise<void> {
    await this.#run('systemctl', ['stop', '--no-block', this.#unit], { acceptedCodes: [1, 5] });
  }

  async disable(): Promise<void> {
    if (await this.#isEnabled()) await this.#run('systemctl', ['disable', this.#unit]);
  }

  /** Has a unit run at the next boot; nothing is started now. */
  async enableForBoot(): Promise<Change[]> {
    if (await this.#isEnabled()) return [];
    await this.#run('systemctl', ['enable', '--no-reload', this.#unit]);
    return [{ what: `service ${this.#unit} enabled`, restart: false }];
  }

  /** The end of the service's log, in one line. */
  async lastWords(): Promise<string> {
    const { stdout } = await this.#run(
      'journalctl',
      ['-u', this.#unit, '-n', '5', '-o', 'cat', '--no-pager'],
      {
        acceptedCodes: [1],
      },
    ).catch(() => ({ stdout: '' }));
    return stdout.trim().split('\n').join(' | ').slice(-1500) || 'it left no word in its log';
  }

  async #properties(): Promise<Map<string, string>> {
    const { stdout } = await this.#run('systemctl', [
      'show',
      '--property=LoadState,ActiveState,MainPID,NeedDaemonReload',
      this.#unit,
    ]);
    return new Map(
      stdout.split('\n').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
    );
  }

  async #isEnabled(): Promise<boolean> {
    const { stdout } = await this.#run('systemctl', ['is-enabled', this.#unit], { acceptedCodes: [1, 4] });
    return stdout.trim() === 'enabled';
  }

  /** Whether the running process was started from the very file that is in the program's place now. */
  async #runsTheProgram(pid: number): Promise<boolean> {
    const installed = await stat(this.#paths.program).catch(() => undefined);
    // Not installed there, but run from elsewhere by the unit's own word.
    if (installed === undefined) return true;
    const running = await stat(this.#paths.at(`/proc/${pid}/exe`)).catch(() => undefined);
    return running !== undefined && running.ino === installed.ino && running.dev === installed.dev;
  }
}
