import { isTrustError } from '@virt-trust/base/error.ts';
import { type ChannelSession, type DialOptions, dialChannel } from './dial.ts';
import type { Sleep } from './sleep.ts';

/** An agent with several addresses; `host` is the one that is preferred. */
export interface DialFirstOptions extends DialOptions {
  /** Tried in this order where `host` does not answer. */
  readonly otherHosts: readonly string[];
  /** How long one address may stay without an answer before the next is tried besides (RFC 8305 §5). */
  readonly headStartMs: number;
  readonly sleep: Sleep;
}

interface Found {
  readonly host: string;
  readonly session: ChannelSession;
}

/** SECURITY: so many addresses are dialled at most, whatever the host says that it has. */
const MOST_HOSTS = 16;

/**
 * Dials one agent under several addresses, one after the other; whoever answers has to have its key. The preferred
 * address is asked once more before another is taken for it, because an agent that starts is there under all of them
 * at one time. Throws, where none answers, as `dialChannel` did at the preferred one, or the agent's own refusal.
 */
export async function dialFirst(options: DialFirstOptions): Promise<Found> {
  const { host: preferred, headStartMs, signal } = options;
  const hosts = [...new Set([preferred, ...options.otherHosts])].slice(0, MOST_HOSTS);
  const others = new AbortController();
  const either = signal === undefined ? others.signal : AbortSignal.any([signal, others.signal]);
  const dial = (host: string, timeoutMs = options.timeoutMs) =>
    dialChannel({ ...options, host, timeoutMs, signal: either });
  if (hosts.length === 1) return { host: preferred, session: await dial(preferred) };

  const first = Promise.withResolvers<void>();
  const errors = new Map<string, unknown>();
  let found: Found | undefined;
  const attempt = async (host: string) => {
    try {
      const session = await dial(host);
      if (found === undefined) found = { host, session };
      else session.destroy();
      first.resolve();
    } catch (error) {
      errors.set(host, error);
    }
  };
  const attempts: Promise<void>[] = [];
  for (const host of hosts) {
    const one = attempt(host);
    attempts.push(one);
    const waited = new AbortController();
    const headStart = options.sleep(headStartMs, waited.signal).catch(() => {});
    await Promise.race([one, first.promise, headStart]);
    waited.abort();
    if (isFound(found) || signal?.aborted === true) break;
  }
  await Promise.race([first.promise, Promise.all(attempts)]);
  const answered = found as Found | undefined;
  if (answered === undefined) throw tellingOf(hosts, errors);
  if (answered.host !== preferred && errors.has(preferred)) {
    const again = await dial(preferred, headStartMs).catch(() => undefined);
    if (again !== undefined) {
      answered.session.destroy();
      found = { host: preferred, session: again };
    }
  }
  // Those that are still being dialled; a session that is up heeds it no more.
  others.abort();
  return found as Found;
}

function isFound(found: Found | undefined): found is Found {
  return found !== undefined;
}

/** That the agent refuses the manager's key says more than that somebody does not answer. */
function tellingOf(hosts: readonly string[], errors: ReadonlyMap<string, unknown>): unknown {
  const all = hosts.flatMap((host) => (errors.has(host) ? [errors.get(host)] : []));
  return all.find((error) => isTrustError(error, 'channel.peer_refused')) ?? all[0];
}
