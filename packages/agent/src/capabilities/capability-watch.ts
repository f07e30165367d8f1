import { isDeepStrictEqual } from 'node:util';
import { describeError } from '@virt-trust/base/error.ts';
import { MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import type { HostCapabilities } from '@virt-trust/contract/model/capabilities.ts';
import type { AgentContext } from '../ports/agent-context.ts';
import type { CapabilityWatch } from '../ports/capability-watch.ts';
import { Rounds } from '../served/rounds.ts';
import { type Look, type LookParts, Looks } from './look.ts';
import { QuickLook } from './quick-look.ts';

/** How often it is asked whether anything is other than before; what the kernel tells of is looked at at once. */
const POLL_MS = 5 * SECOND;
/** However alike it seems, everything is looked at anew so often. */
const FULL_MS = 10 * MINUTE;
/** A daemon that hangs must not keep the agent from starting. */
const START_MS = 5 * SECOND;
/** Nor an application from ending; but on a busy host a look takes seconds, and who waits for its end goes by the report. */
const CHANGED_MS = 30 * SECOND;

type WatchParts = LookParts &
  Pick<AgentContext, 'record' | 'log'> & {
    /** Whether the daemon is being stopped and started now: whoever asks it something then starts it in between. */
    readonly isUnderWay: () => boolean;
  };

/** Knows what this host can do in migrations, and tells of changes. */
export class HostCapabilityWatch implements CapabilityWatch {
  readonly #parts: WatchParts;
  readonly #looks: Looks;
  readonly #quick: QuickLook;
  readonly #rounds: Rounds;
  #report: HostCapabilities | null = null;
  #last: (Look & { readonly digest: string; readonly at: number }) | undefined;
  #due = true;
  #failed = false;
  #turn: Promise<void> = Promise.resolve();

  constructor(parts: WatchParts) {
    this.#parts = parts;
    this.#looks = new Looks(parts);
    this.#quick = new QuickLook(parts.paths, parts.run);
    this.#rounds = new Rounds({
      round: () => this.look(),
      intervalMs: () => POLL_MS,
      watched: async () => this.#quick.watched(this.#last?.directory ?? ''),
    });
  }

  /** Where a crash interrupted an application, that tells when it is over. */
  async start(): Promise<void> {
    if (this.#parts.isUnderWay()) this.#rounds.soon();
    else await this.#lookWithin(START_MS);
  }

  report(): HostCapabilities | null {
    return this.#report;
  }

  /** Something was done to the host that may have changed what it can do; resolves once that is known. */
  async changed(): Promise<void> {
    await this.#lookWithin(CHANGED_MS);
  }

  async #lookWithin(milliseconds: number): Promise<void> {
    this.#due = true;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, milliseconds);
    await Promise.race([this.#inTurn(() => this.#look()), promise]);
    clearTimeout(timer);
    this.#rounds.soon();
  }

  async stop(): Promise<void> {
    this.#rounds.stop();
    await this.#turn;
  }

  /** Looks, where anything is other than at the last look, and nobody works on the host. */
  async look(): Promise<void> {
    await this.#inTurn(async () => {
      if (!this.#parts.isUnderWay()) await this.#look();
    });
  }

  async #inTurn(work: () => Promise<void>): Promise<void> {
    this.#turn = this.#turn.then(work);
    await this.#turn;
  }

  async #look(): Promise<void> {
    const { clock, log, record } = this.#parts;
    try {
      if (!(await this.#isDue())) return;
      this.#due = false;
      const before = this.#last === undefined ? '' : await this.#digest(this.#last);
      const look = await this.#looks.now();
      const digest = await this.#digest(look);
      // Something changed during the look, if only that it had libvirt started: looked at once more.
      if (digest !== before) this.#due = true;
      this.#last = { ...look, digest, at: clock.now() };
      this.#failed = false;
      const difference = differenceOf(this.#report, look.capabilities);
      if (difference === null) return;
      this.#report = { at: clock.now(), ...look.capabilities };
      await record('capabilities.changed', 'host', difference);
    } catch (error) {
      this.#due = true;
      if (!this.#failed) log.warn({ reason: describeError(error) }, 'cannot look at what the host can do');
      this.#failed = true;
    }
  }

  async #isDue(): Promise<boolean> {
    const last = this.#last;
    const now = this.#parts.clock.now();
    if (this.#due || last === undefined || Math.abs(now - last.at) >= FULL_MS) return true;
    if (last.until !== null && now >= last.until) return true;
    return (await this.#digest(last)) !== last.digest;
  }

  async #digest({ directory, ports }: Look): Promise<string> {
    return await this.#quick.digest(directory, ports);
  }
}

/** What is other than before, for people; null where nothing is. */
function differenceOf(before: HostCapabilities | null, now: Look['capabilities']): string | null {
  const { at: _, ...known } = before ?? { at: null };
  if (before !== null && isDeepStrictEqual(known, now)) return null;
  const words = {
    'libvirt with TLS': placesOf(now.libvirtTls),
    'QEMU with TLS': now.nativeTls ? 'on' : `off: ${now.nativeTlsLacks}`,
    'plain TCP': placesOf(now.libvirtTcp),
    migrate_tls_force: now.migrateTlsForce ? 'on' : 'off',
    pinned: now.pinned ? 'yes' : 'no',
    libvirt: now.libvirtVersion ?? 'not found',
    QEMU: now.qemuVersion ?? 'not found',
  };
  return Object.entries(words)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ');
}

function placesOf(listener: HostCapabilities['libvirtTls']): string {
  return listener === null ? 'off' : `on ${listener.addresses.join(' ')} port ${listener.port}`;
}
