import type { Clock } from '@virt-trust/base/clock.ts';
import { type Instant, MINUTE } from '@virt-trust/base/instant.ts';
import { ipAddressOctets } from '@virt-trust/pki/ip-address.ts';

export interface AddressRateOptions {
  readonly clock: Clock;
  /** What one address may cost at once, and in each minute. */
  readonly perMinute: number;
  /** Octets of an IPv6 address that share; 8 (a /64) where strangers come, who have as many addresses as they like. */
  readonly sharedOctets?: number;
}

interface Bucket {
  spent: number;
  at: Instant;
}

/** SECURITY: so many addresses are remembered; the one that was quiet for longest is forgotten first. */
const MOST_ADDRESSES = 4096;

/** Bounds what a single address (of IPv6 a /64, unless told otherwise) can have us do. */
export class AddressRate {
  readonly #options: AddressRateOptions;
  readonly #buckets = new Map<string, Bucket>();

  constructor(options: AddressRateOptions) {
    this.#options = options;
  }

  /** Whether the address has anything left. */
  allows(address: string): boolean {
    return this.#bucket(address).spent < this.#options.perMinute;
  }

  spend(address: string, cost: number): void {
    const bucket = this.#bucket(address);
    bucket.spent = Math.min(this.#options.perMinute, bucket.spent + cost);
  }

  #bucket(address: string): Bucket {
    const { clock, perMinute, sharedOctets = 8 } = this.#options;
    const key = keyOf(address, sharedOctets);
    const now = clock.now();
    const known = this.#buckets.get(key) ?? { spent: 0, at: now };
    // A clock that was set back gives nothing back.
    known.spent = Math.max(0, known.spent - (Math.max(0, now - known.at) * perMinute) / MINUTE);
    known.at = now;
    this.#buckets.delete(key);
    this.#buckets.set(key, known);
    const [oldest] = this.#buckets.keys();
    if (oldest !== undefined && this.#buckets.size > MOST_ADDRESSES) this.#buckets.delete(oldest);
    return known;
  }
}

function keyOf(address: string, sharedOctets: number): string {
  const octets = ipAddressOctets(address);
  return octets === undefined ? '' : Buffer.from(octets.subarray(0, sharedOctets)).toString('hex');
}
