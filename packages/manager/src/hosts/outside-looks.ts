import { isIP } from 'node:net';
import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import { probeLibvirt } from '@virt-trust/connect/probe-libvirt.ts';
import { LIBVIRT_TLS_PORT } from '@virt-trust/libvirt/layout.ts';
import type { Host, HostRepository } from './host.ts';
import { managementAddresses } from './management-addresses.ts';
import type { OutsideLook } from './outside-look.ts';
import type { OwnClient } from './ports.ts';
import { Slots } from './slots.ts';

export interface OutsideLooksParts {
  readonly repository: Pick<HostRepository, 'get'>;
  /** Trusted for a host's libvirtd: our control authority's certificates, and what was found there. */
  readonly trustFor: (host: Host) => Promise<string>;
  readonly client: () => Promise<OwnClient>;
  /** Seconds between two looks at a host. */
  readonly intervalOf: (host: Host) => Promise<number>;
  readonly isUp: (id: HostId) => boolean;
  /** Asks the agent for a sign of life on its channel. */
  readonly agentAnswers: (host: Host, signal: AbortSignal) => Promise<boolean>;
  /** A host was seen to be otherwise than at the last look. */
  readonly onChange: (id: HostId) => void;
  readonly probe?: typeof probeLibvirt;
  readonly port?: number;
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly log: Log;
  readonly signal: AbortSignal;
}

type Seen = Pick<OutsideLook, 'state' | 'detail'> & {
  /** Whether nothing was heard, or nothing any more. */
  readonly silent?: boolean;
};

interface Entry {
  look: OutsideLook | null;
  timer: NodeJS.Timeout | undefined;
}

const TIMEOUT = 5000;
/** Within this the first look begins: not at every host at once. */
const FIRST_LOOK_SECONDS = 10;
/** How many handshakes are under way at one time; the others wait, so that a large fleet is looked at less often. */
const CONCURRENCY = 16;
/** After a look that found something wrong the next comes soon, to tell a restart from a fault. */
const SECOND_LOOK_SECONDS = 5;
/** A host that answers neither here nor on its channel is down: one look in so many intervals. */
const PATIENCE = 5;

/**
 * The manager's own looks at what every managed host serves on libvirt's port, as a client sees it: the real handshake
 * with a client certificate, up to libvirt's confirmation. What was seen is kept in memory: a manager that starts looks
 * anew.
 */
export class OutsideLooks {
  readonly #parts: OutsideLooksParts;
  readonly #entries = new Map<HostId, Entry>();
  readonly #slots = new Slots(CONCURRENCY);

  constructor(parts: OutsideLooksParts) {
    this.#parts = parts;
    parts.signal.addEventListener('abort', () => {
      for (const { timer } of this.#entries.values()) clearTimeout(timer);
    });
  }

  /** What was seen last; null before the first look. */
  of(id: HostId): OutsideLook | null {
    return this.#entries.get(id)?.look ?? null;
  }

  /** How many hosts were last seen in each state. */
  counts(): Map<OutsideLook['state'], number> {
    const counts = new Map<OutsideLook['state'], number>();
    for (const { look } of this.#entries.values())
      if (look !== null) counts.set(look.state, (counts.get(look.state) ?? 0) + 1);
    return counts;
  }

  /** The host is there, or was written: it is looked at from now on, until it is gone. */
  written(id: HostId): void {
    if (this.#entries.has(id) || this.#parts.signal.aborted) return;
    const entry: Entry = { look: null, timer: undefined };
    this.#entries.set(id, entry);
    this.#wait(id, entry, this.#random() * FIRST_LOOK_SECONDS);
  }

  /** Its channel came up: what was seen while it was away says nothing any more, and the next look comes soon. */
  up(id: HostId): void {
    const entry = this.#entries.get(id);
    if (entry?.look?.agentAnswered !== false) return;
    entry.look = null;
    this.#wait(id, entry, this.#random() * SECOND_LOOK_SECONDS);
    this.#parts.onChange(id);
  }

  /** Looks now, and answers what was seen; null where there is nothing to look at. */
  async look(id: HostId): Promise<OutsideLook | null> {
    const host = await this.#parts.repository.get(id);
    const entry = this.#entries.get(id);
    if (host === null || entry === undefined) {
      clearTimeout(entry?.timer);
      this.#entries.delete(id);
      return null;
    }
    await this.#lookAt(host, entry);
    return entry.look;
  }

  async #lookAt(host: Host, entry: Entry): Promise<void> {
    if (!isServing(host)) return this.#forgetOff(host, entry);
    const seen = await this.#slots.run(this.#parts.signal, () => this.#handshakes(host));
    // What changed while it was looked at says nothing of how it is.
    const after = seen.state === 'as-desired' ? host : await this.#parts.repository.get(host.id);
    if (after === null || !isServing(after) || pinOf(after) !== pinOf(host)) return;
    const before = entry.look;
    const at = this.#parts.clock.now();
    const since = before?.state === seen.state ? before.since : at;
    const { state, detail, silent = false } = seen;
    const look = { state, detail, agentAnswered: await this.#agentAnswered(host, silent), since, at };
    entry.look = look;
    const same =
      before?.state === look.state &&
      before.detail === look.detail &&
      before.agentAnswered === look.agentAnswered;
    if (!same) this.#parts.onChange(host.id);
  }

  /** Whose TLS was switched off, there is nothing wrong with. */
  #forgetOff({ id, state }: Host, entry: Entry): void {
    if (state !== 'unsecured' || entry.look === null) return;
    entry.look = null;
    this.#parts.onChange(id);
  }

  /** A host whose network was cut just now, in a handshake perhaps, is away: that says nothing of libvirtd. */
  async #agentAnswered(host: Host, silent: boolean): Promise<boolean> {
    if (!silent) return true;
    const signal = AbortSignal.any([this.#parts.signal, AbortSignal.timeout(TIMEOUT)]);
    return this.#parts.agentAnswers(host, signal);
  }

  async #handshakes(host: Host): Promise<Seen> {
    const [trust, client] = await Promise.all([this.#parts.trustFor(host), this.#parts.client()]);
    let worst: Seen = { state: 'as-desired', detail: '' };
    for (const address of managementAddresses(host)) {
      const seen = await this.#handshake(host, address, trust, client);
      if (RANK[seen.state] > RANK[worst.state]) worst = seen;
    }
    return worst;
  }

  async #handshake(host: Host, address: string, trust: string, client: OwnClient): Promise<Seen> {
    const { probe = probeLibvirt, port = LIBVIRT_TLS_PORT, clock, signal } = this.#parts;
    const target = `${isIP(address) === 6 ? `[${address}]` : address}:${port}`;
    const expected = pinOf(host);
    try {
      const { servedCertificate } = await probe({
        host: address,
        port,
        serverName: credentialOf(host)?.identity === 'ours' ? address : null,
        trust,
        client,
        clock,
        timeoutMs: TIMEOUT,
        signal,
      });
      if (expected === null || servedCertificate.pin === expected) return { state: 'as-desired', detail: '' };
      return {
        state: 'drifted',
        detail: `${target} serves the certificate ${servedCertificate.serialNumber} (${servedCertificate.pin}) and not ${expected}`,
      };
    } catch (error) {
      signal.throwIfAborted();
      const away = isTrustError(error, 'probe.connect');
      return {
        state: away ? 'unreachable' : 'refused',
        detail: `${target}: ${describeError(error)}`,
        silent: away || (isTrustError(error) && error.context?.['expired'] === true),
      };
    }
  }

  #wait(id: HostId, entry: Entry, seconds: number): void {
    if (this.#parts.signal.aborted || this.#entries.get(id) !== entry) return;
    clearTimeout(entry.timer);
    entry.timer = setTimeout(() => void this.#turn(id, entry), seconds * 1000);
    entry.timer.unref();
  }

  async #turn(id: HostId, entry: Entry): Promise<void> {
    let seconds = 60;
    try {
      const host = await this.#parts.repository.get(id);
      if (host === null) {
        this.#entries.delete(id);
        return;
      }
      await this.#lookAt(host, entry);
      seconds = this.#pause(entry, id, await this.#parts.intervalOf(host));
    } catch (error) {
      if (this.#parts.signal.aborted) return;
      this.#parts.log.warn(
        { host: id, reason: describeError(error) },
        'could not look at a host from outside',
      );
    }
    this.#wait(id, entry, seconds);
  }

  #pause({ look }: Entry, id: HostId, interval: number): number {
    const jittered = interval * (0.75 + this.#random() / 2);
    if (look === null || look.state === 'as-desired') return jittered;
    if (look.at === look.since) return Math.min(SECOND_LOOK_SECONDS, jittered);
    return look.state === 'unreachable' && !this.#parts.isUp(id) ? jittered * PATIENCE : jittered;
  }

  /** From 0 to 1. */
  #random(): number {
    const [high = 0, low = 0] = this.#parts.randomness.bytes(2);
    return (high * 256 + low) / 65_536;
  }
}

const RANK: Readonly<Record<OutsideLook['state'], number>> = {
  'as-desired': 0,
  unreachable: 1,
  refused: 2,
  drifted: 3,
};

function credentialOf(host: Host) {
  return host.observed?.credentials.find((credential) => credential.service === 'libvirt');
}

function pinOf(host: Host): string | null {
  return credentialOf(host)?.pin ?? null;
}

/** It was brought to a state, and nobody is at work on it: what is served is to be what was settled on. */
function isServing(host: Host): boolean {
  return (
    !host.observeOnly &&
    (host.state === 'secured' || host.state === 'failed') &&
    credentialOf(host)?.phase === 'settled' &&
    credentialOf(host)?.generation !== null
  );
}
