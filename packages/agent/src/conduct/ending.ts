import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import {
  domainMigrateConfirm3Params,
  domainMigrateFinish3Params,
  MIGRATE_FLAGS,
  MIGRATE_PARAMETER_NAMES,
  type RemoteDomain,
} from '@virt-trust/libvirt/migration-protocol.ts';
import type { TypedParameter } from '@virt-trust/libvirt/typed-params.ts';
import type { ConductionJournal } from './conduction-journal.ts';
import { isLibvirtError, stateOf } from './domain.ts';
import { betterOf, destinationLost, streamBroke, timedOut } from './failures.ts';
import { type Outcome, operatorNeeded } from './outcome.ts';
import type { ConductionParts } from './parts.ts';
import { untilTransferEnded } from './recovery.ts';
import type { RpcClient } from './rpc-client.ts';
import { type Place, Settling } from './settling.ts';
import type { MigrationWatch } from './watch.ts';

const NONE = new Uint8Array();

/** What is known once libvirt's Begin was called at the source. */
export interface UnderWay {
  readonly source: RpcClient;
  readonly destination: RpcClient;
  readonly domain: RemoteDomain;
  /** Of the source's calls. */
  readonly flags: number;
  /** VIR_MIGRATE_CHANGE_PROTECTION, where the source's libvirt has it. */
  readonly protection: number;
  /** Of the destination's calls. */
  readonly destinationFlags: number;
}

/** How a migration ends from wherever it has come to: with the VM on one host, or with a word to the operator. */
export class Ending {
  readonly #parts: ConductionParts;
  readonly #journal: ConductionJournal;

  constructor(parts: ConductionParts, journal: ConductionJournal) {
    this.#parts = parts;
    this.#journal = journal;
  }

  get #told() {
    return { ...this.#parts.order, uuid: this.#journal.now.uuid };
  }

  failed(error: unknown, runsOn: Outcome['runsOn'], step: Outcome['step'] = this.#journal.now.step): Outcome {
    const message = describeError(error);
    const hint = isTrustError(error) ? error.hint : undefined;
    const phase = this.#parts.isCancelled() ? 'cancelled' : 'failed';
    return {
      phase,
      step,
      runsOn,
      error: phase === 'cancelled' ? null : { message, hint: hint ?? null },
    };
  }

  /** Ends what Begin began; the VM never stopped. */
  async takeBack(underWay: UnderWay, reason: unknown): Promise<Outcome> {
    const { source, domain, flags, protection } = underWay;
    if (protection !== 0)
      await source
        .call(domainMigrateConfirm3Params, {
          domain,
          params: [],
          cookieIn: NONE,
          flags: flags | protection,
          cancelled: 1,
        })
        .catch(() => {});
    const seen = await stateOf(source, domain.uuid).catch(() => undefined);
    return this.failed(reason, seen === null ? 'neither' : 'source');
  }

  /** Ends what Begin began, and what Prepare made at the destination. */
  async takeBackPrepared(underWay: UnderWay, reason: unknown): Promise<Outcome> {
    await this.#removeAtDestination(underWay).catch(() => {});
    return await this.takeBack(underWay, reason);
  }

  /** After Perform threw: the destination removes what it has, and the VM goes on at the source. */
  async performFailed(underWay: UnderWay, failure: unknown, watch: MigrationWatch): Promise<Outcome> {
    const { order } = this.#parts;
    const { domain, destination } = underWay;
    // What the destination says is said better by Perform's own error but for QEMU's death.
    const atDestination = await this.#removeAtDestination(underWay)
      .then(() => undefined)
      .catch((error: unknown) => error);
    // Lost, and not told: it may be under way still, and must not be confirmed before its end.
    if (!isLibvirtError(failure)) await untilTransferEnded(domain.uuid, this.#parts);
    const reason = betterOf(failure, atDestination);
    const trouble = this.#parts.streamTrouble();
    const told = watch.wasTimedOut
      ? timedOut(order, reason)
      : watch.wasAbandoned
        ? destinationLost(order, reason, await destination.lost)
        : trouble === null
          ? reason
          : streamBroke(reason, trouble);
    return await this.settle(underWay, 'source', told);
  }

  /** After Finish threw: where the VM is is found out first. */
  async finishFailed(
    underWay: UnderWay,
    failure: unknown,
    params: readonly TypedParameter[],
  ): Promise<Outcome> {
    const place = await this.#settling(underWay).whereAfter(failure);
    return await this.settle(underWay, place, failure, { params, cookie: NONE });
  }

  /** Brings the source's end in line with where the VM goes on. */
  async settle(
    underWay: UnderWay,
    place: Place,
    failure: unknown,
    confirm: { readonly params: readonly TypedParameter[]; readonly cookie: Uint8Array } = {
      params: [],
      cookie: NONE,
    },
  ): Promise<Outcome> {
    if (place === 'unknown') return await this.#unknown(underWay, failure);
    const { step, finishSent } = this.#journal.now;
    if (place === 'post-copy-failed') return operatorNeeded(this.#told, place, step, failure);
    if (finishSent) await this.#journal.note({ step: 'confirm' });
    const { flags, protection } = underWay;
    const isOffline = (flags & MIGRATE_FLAGS.offline) !== 0;
    const settled = await this.#settling(underWay).settle(place, {
      params: confirm.params,
      cookieIn: confirm.cookie,
      flags: flags | protection,
      isOffline,
    });
    if (settled.kind === 'unsettled') return operatorNeeded(this.#told, place, 'confirm', settled.reason);
    if (place === 'destination')
      return { phase: 'done', step: null, runsOn: isOffline ? 'neither' : 'destination', error: null };
    if (settled.kind === 'post-copy-failed')
      return operatorNeeded(this.#told, 'post-copy-failed', step, failure);
    return this.failed(failure, settled.kind === 'gone' ? 'neither' : 'source', step);
  }

  /** A VM in post-copy must not go on at the source, and what the source has of it must not be thrown away. */
  async #unknown({ source, domain }: UnderWay, failure: unknown): Promise<Outcome> {
    const { step, isPostCopy } = this.#journal.now;
    const seen = await stateOf(source, domain.uuid).catch(() => undefined);
    // Somebody else may have begun post-copy.
    const place = isPostCopy || seen?.reason.startsWith('post-copy') ? 'post-copy-unknown' : 'unknown';
    return operatorNeeded(this.#told, place, step, failure);
  }

  /** Finish, cancelled: has the destination remove what it prepared. */
  async #removeAtDestination({ destination, domain, destinationFlags }: UnderWay): Promise<unknown> {
    return await destination.call(domainMigrateFinish3Params, {
      params: [{ name: MIGRATE_PARAMETER_NAMES.destinationName, kind: 'string', value: domain.name }],
      cookieIn: NONE,
      flags: destinationFlags,
      cancelled: 1,
    });
  }

  #settling({ source, domain }: UnderWay): Settling {
    const { order, openSource, openDestination, peer, now, sleep } = this.#parts;
    return new Settling({
      order,
      uuid: domain.uuid,
      wasPaused: this.#journal.now.wasPaused,
      openSource,
      openDestination,
      peer,
      now,
      sleep,
      source,
    });
  }
}
