import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import type { MigrationOrder } from '@virt-trust/contract/model/migration.ts';
import type { DomainState } from '@virt-trust/libvirt/domain-state.ts';
import {
  domainDestroy,
  domainMigrateConfirm3Params,
  domainResume,
  domainSuspend,
  type RemoteDomain,
} from '@virt-trust/libvirt/migration-protocol.ts';
import type { TypedParameter } from '@virt-trust/libvirt/typed-params.ts';
import { findDomain, isLibvirtError, stateOf } from './domain.ts';
import type { PeerDoor } from './parts.ts';
import type { RpcClient } from './rpc-client.ts';
import { judgeDestination, type Verdict } from './verdict.ts';

const LOOK_MS = 1000;
/** Of looks at a VM that libvirt says to have failed to start: it goes within moments. */
const LOOKS_AFTER_ERROR = 20;
/** Why libvirt has paused a VM of its own accord in a migration. */
const PAUSED_BY_MIGRATION = ['migrating', 'unknown'];

/** Where the VM goes on, as far as that is known. */
export type Place = 'source' | 'destination' | 'unknown' | 'post-copy-failed';

/** What became of the source's end. */
export type Settled =
  | { readonly kind: 'settled' }
  | { readonly kind: 'gone' }
  | { readonly kind: 'post-copy-failed' }
  | { readonly kind: 'unsettled'; readonly reason: unknown };

export interface SettlingParts {
  readonly order: MigrationOrder;
  readonly uuid: string;
  readonly wasPaused: boolean;
  readonly openSource: () => Promise<RpcClient>;
  readonly openDestination: () => Promise<RpcClient>;
  readonly peer: PeerDoor | null;
  readonly now: () => number;
  readonly sleep: (milliseconds: number) => Promise<void>;
  /** The connection that holds libvirt's job; absent where it is lost with the process that had it. */
  readonly source?: RpcClient;
}

/** Arguments of Confirm. */
export interface Confirmation {
  readonly params: readonly TypedParameter[];
  readonly cookieIn: Uint8Array;
  readonly flags: number;
  readonly isOffline: boolean;
}

/** Finds out where the VM is once Finish was sent, and brings the source's end in line with that. */
export class Settling {
  readonly #parts: SettlingParts;

  constructor(parts: SettlingParts) {
    this.#parts = parts;
  }

  /** Where the VM goes on after Finish threw: libvirt's own no is believed once the VM is seen not to run there. */
  async whereAfter(error: unknown): Promise<Place> {
    if (!isLibvirtError(error)) return await this.where();
    for (let look = 0; look < LOOKS_AFTER_ERROR; look++) {
      const verdict = await this.#ask();
      if (verdict === 'absent') return 'source';
      if (verdict === 'post-copy-failed') return 'post-copy-failed';
      if (verdict === undefined || verdict === 'there' || verdict === 'post-copy') break;
      await this.#parts.sleep(LOOK_MS / 4);
    }
    return await this.where();
  }

  /**
   * Asks the destination's libvirt and its agent until one knows, at most for the order's time of doubt; time in which
   * post-copy is seen to go on does not count.
   */
  async where(): Promise<Place> {
    const { order, now, sleep } = this.#parts;
    let until = now() + order.doubtSeconds * 1000;
    for (;;) {
      const verdict = await this.#ask();
      if (verdict === 'there') return 'destination';
      if (verdict === 'absent') return 'source';
      if (verdict === 'post-copy-failed') return 'post-copy-failed';
      if (verdict === 'post-copy') until = now() + order.doubtSeconds * 1000;
      if (now() >= until) return 'unknown';
      await sleep(LOOK_MS);
    }
  }

  /** Ends the VM's rest at the source, or has it go on there. */
  async settle(place: 'source' | 'destination', confirmation: Confirmation): Promise<Settled> {
    const { order, now, sleep, source } = this.#parts;
    const until = now() + order.doubtSeconds * 1000;
    let client = source;
    let opened: RpcClient | undefined;
    let reason: unknown;
    try {
      for (;;) {
        try {
          if (client === undefined || client.isLost) {
            opened?.destroy();
            opened = await this.#parts.openSource();
            client = opened;
          }
          const settled = await this.#settleWith(client, place, confirmation);
          if (settled !== undefined) return settled;
          reason = new TrustError('migration.source', 'failed', `${order.vm} still stands on ${order.from}`);
        } catch (error) {
          reason = error;
        }
        if (now() >= until) return { kind: 'unsettled', reason };
        await sleep(LOOK_MS);
      }
    } finally {
      await opened?.close();
    }
  }

  /** Undefined where it must be tried again. */
  async #settleWith(
    client: RpcClient,
    place: 'source' | 'destination',
    { params, cookieIn, flags, isOffline }: Confirmation,
  ): Promise<Settled | undefined> {
    const { order, uuid } = this.#parts;
    const domain = await findDomain(client, { uuid });
    if (domain === undefined) return place === 'destination' ? { kind: 'settled' } : { kind: 'gone' };
    const cancelled = place === 'destination' ? 0 : 1;
    // Refused where libvirt has no job of it any more; then the state says what is left to do.
    const refusal = await client
      .call(domainMigrateConfirm3Params, { domain, params, cookieIn, flags, cancelled })
      .then(() => undefined)
      .catch((error: unknown) => error);
    if (refusal !== undefined && !isLibvirtError(refusal)) throw refusal;
    if (isOffline)
      return refusal === undefined ? { kind: 'settled' } : { kind: 'unsettled', reason: refusal };
    const seen = await stateOf(client, uuid);
    if (place === 'source') return await this.#goOn(client, domain, seen);
    if (seen === null || seen.state === 'shut off') return { kind: 'settled' };
    if (seen.state === 'paused') {
      // SECURITY: only a VM that stands still is ended, and only because it was seen at the destination.
      await client.call(domainDestroy, { domain });
      return undefined;
    }
    await client.call(domainSuspend, { domain });
    return {
      kind: 'unsettled',
      reason: new TrustError(
        'migration.two_running',
        'failed',
        `${order.vm} was ${seen.state} on ${order.from} (${seen.reason}), too; there it was paused`,
      ),
    };
  }

  async #goOn(
    client: RpcClient,
    domain: RemoteDomain,
    seen: DomainState | null,
  ): Promise<Settled | undefined> {
    if (seen === null || seen.state === 'shut off') return { kind: 'gone' };
    if (seen.reason.startsWith('post-copy')) return { kind: 'post-copy-failed' };
    const isOurs = seen.state === 'paused' && PAUSED_BY_MIGRATION.includes(seen.reason);
    if (!isOurs || this.#parts.wasPaused) return { kind: 'settled' };
    await client.call(domainResume, { domain });
    return undefined;
  }

  /** What the destination says now; undefined where nobody there answers. */
  async #ask(): Promise<Verdict | undefined> {
    return (await this.#askLibvirt()) ?? (await this.#askPeer());
  }

  async #askLibvirt(): Promise<Verdict | undefined> {
    // Through a peer's filter only the calls of a migration pass; its agent is asked.
    if (this.#parts.order.destination.kind === 'peer') return undefined;
    let client: RpcClient | undefined;
    try {
      client = await this.#parts.openDestination();
      return judgeDestination(await stateOf(client, this.#parts.uuid));
    } catch {
      return undefined;
    } finally {
      await client?.close();
    }
  }

  async #askPeer(): Promise<Verdict | undefined> {
    try {
      const seen = await this.#parts.peer?.vmState();
      if (seen === undefined) return undefined;
      return judgeDestination(seen.state === null ? null : { state: seen.state, reason: seen.reason });
    } catch (error) {
      if (!isTrustError(error)) throw error;
      return undefined;
    }
  }
}
