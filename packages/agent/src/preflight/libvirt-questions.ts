import { isTrustError, type TrustError } from '@virt-trust/base/error.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { clean } from './finding-list.ts';

const LOCAL = 'qemu:///system';
const QUESTION_MS = 20_000;

/** Asks libvirt, of this host or another, what a preflight wants to know; changes nothing. */
export class LibvirtQuestions {
  readonly #run: RunHostCommand;
  readonly #signal: AbortSignal;
  readonly #uri: string;

  constructor(run: RunHostCommand, signal: AbortSignal, uri = LOCAL) {
    this.#run = run;
    this.#signal = signal;
    this.#uri = uri;
  }

  /** The answer; throws where libvirt refuses. */
  async ask(args: readonly string[], stdin?: string): Promise<string> {
    const { stdout } = await this.#run('virsh', ['-c', this.#uri, ...args], {
      timeoutMs: QUESTION_MS,
      signal: this.#signal,
      ...(stdin === undefined ? {} : { stdin }),
    });
    return stdout;
  }

  /** The answer; undefined where libvirt refuses. */
  async tryAsk(args: readonly string[]): Promise<string | undefined> {
    return await this.ask(args).catch(() => undefined);
  }

  async lines(args: readonly string[]): Promise<string[]> {
    return ((await this.tryAsk(args)) ?? '')
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '');
  }

  /** Null where libvirt agrees; else what it says. */
  async objection(args: readonly string[], stdin?: string): Promise<string | null> {
    try {
      await this.ask(args, stdin);
      return null;
    } catch (error) {
      if (this.#signal.aborted) throw error;
      return wordsOf(error);
    }
  }

  /** The names of VMs by UUID, active ones or all; throws where libvirt does not answer. */
  async vms(which: '--all' | '--state-running' | '--state-paused'): Promise<ReadonlyMap<string, string>> {
    const text = await this.ask(['list', which, '--uuid', '--name']);
    const found = new Map<string, string>();
    for (const line of text.split('\n')) {
      const parts = /^([0-9a-f-]{36})\s+(\S.*)$/.exec(line.trim());
      if (parts?.[1] !== undefined && parts[2] !== undefined) found.set(parts[1], parts[2]);
    }
    return found;
  }
}

/** What libvirt said, without the command that asked. */
export function wordsOf(error: unknown): string {
  if (!isTrustError(error)) return clean(String(error));
  const { context } = error as TrustError & { context?: { stderr?: unknown } };
  const said = typeof context?.stderr === 'string' ? context.stderr.trim() : '';
  return clean(said === '' ? error.message : said.replaceAll(/^error: /gm, '').replaceAll(/\s*\n\s*/g, '; '));
}
