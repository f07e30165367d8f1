import type { HostNetwork, Interface, InterfaceAddress } from '@virt-trust/contract/model/inventory.ts';
import { TENTATIVE } from '../inventory/left-out.ts';
import type { Timers } from './timers.ts';

/** For tests: an address; `~` before it is tentative, `?` temporary. */
function address(text: string): InterfaceAddress {
  const bare = text.replace(/^[~?]/, '');
  const temporary = text.startsWith('?');
  const family = bare.includes(':') ? 'ipv6' : 'ipv4';
  return {
    address: bare,
    family,
    prefixLength: family === 'ipv6' ? 64 : 24,
    scope: 'global',
    temporary,
    deprecated: false,
    leftOut: temporary ? 'temporary' : text.startsWith('~') ? TENTATIVE : null,
  };
}

/** For tests: an interface with its addresses. */
export function card(name: string, addresses: readonly string[], more: Partial<Interface> = {}): Interface {
  return {
    name,
    up: true,
    kind: '',
    macAddress: '',
    master: null,
    parent: null,
    leftOut: null,
    ...more,
    addresses: addresses.map(address),
  };
}

/** For tests: a host with its interfaces. */
export function network(...interfaces: Interface[]): HostNetwork {
  return { hostName: 'kvm1', interfaces };
}

/** For tests: each interface with the addresses of which clients are told; a `-` before it where it is down. */
export function told(report: HostNetwork | null): string[] {
  return (report?.interfaces ?? []).map(
    ({ name, up, addresses }) =>
      `${up ? '' : '-'}${[name, ...addresses.flatMap((one) => (one.leftOut === null ? [one.address] : []))].join(' ')}`,
  );
}

/** For tests: time that passes when it is told to. */
export class SimulatedTimers implements Timers {
  #now = 0;
  readonly #alarms = new Set<{ at: number; wake: () => void }>();

  now(): number {
    return this.#now;
  }

  after(milliseconds: number, wake: () => void): () => void {
    const alarm = { at: this.#now + milliseconds, wake };
    this.#alarms.add(alarm);
    return () => this.#alarms.delete(alarm);
  }

  /** Lets time pass, alarm by alarm, each with what it began. */
  async pass(milliseconds: number): Promise<void> {
    const end = this.#now + milliseconds;
    for (;;) {
      await this.#rest();
      const [next] = [...this.#alarms].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.#alarms.delete(next);
      this.#now = Math.max(this.#now, next.at);
      next.wake();
    }
    this.#now = end;
    await this.#rest();
  }

  /** What was begun by an alarm and takes no time of its own comes to its end. */
  async #rest(): Promise<void> {
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
  }
}
