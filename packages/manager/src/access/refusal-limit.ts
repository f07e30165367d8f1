import { isIPv6 } from 'node:net';
import type { Clock } from '@virt-trust/base/clock.ts';
import { type Instant, MINUTE } from '@virt-trust/base/instant.ts';

const REFUSALS_A_MINUTE = 10;
const REFUSALS_A_MINUTE_IN_ALL = 100;
const MOST_SOURCES = 4096;
const EVERYBODY = '';

interface Window {
  since: Instant;
  count: number;
}

/** What to make of a refusal: `first` and `last` are audited, `more` is answered alike without being kept anywhere. */
export type RefusalVerdict = 'first' | 'last' | 'more';

/**
 * Bounds what refused requests can cost: so many a minute from one source (an IPv6 /64 counts as one) and from all are
 * audited, the rest is only answered. A right token is never refused because of others' wrong ones.
 */
export class RefusalLimit {
  readonly #clock: Clock;
  readonly #windows = new Map<string, Window>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Counts a refusal of a remote address, or of a token by its id. */
  count(source: string): RefusalVerdict {
    const own = this.#add(isIPv6(source) ? networkOf(source) : source);
    const all = this.#add(EVERYBODY);
    if (own > REFUSALS_A_MINUTE || all > REFUSALS_A_MINUTE_IN_ALL) return 'more';
    return own === REFUSALS_A_MINUTE || all === REFUSALS_A_MINUTE_IN_ALL ? 'last' : 'first';
  }

  #add(source: string): number {
    const now = this.#clock.now();
    let window = this.#windows.get(source);
    // A clock set back must not lengthen the window.
    if (window === undefined || now - window.since >= MINUTE || now < window.since)
      window = { since: now, count: 0 };
    window.count += 1;
    // Taken out and put back, so that the map's first entry is the one not seen for longest.
    this.#windows.delete(source);
    this.#windows.set(source, window);
    const oldest = this.#windows.keys().next();
    if (this.#windows.size > MOST_SOURCES && oldest.done !== true) this.#windows.delete(oldest.value);
    return window.count;
  }
}

/** The /64 of an IPv6 address; an IPv4 address written as IPv6 stays whole. */
function networkOf(address: string): string {
  if (address.includes('.')) return address;
  const [head = '', tail] = address.split('%', 1).join('').split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - left.length - right.length);
  return [...left, ...new Array<string>(zeros).fill('0'), ...right].slice(0, 4).join(':');
}
