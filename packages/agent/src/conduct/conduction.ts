import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import type { MigrationStatus } from '@virt-trust/contract/model/migration.ts';
import {
  domainGetState,
  domainMigrateBegin3Params,
  domainMigrateConfirm3Params,
  domainMigrateFinish3Params,
  domainMigratePerform3Params,
  domainMigratePrepare3Params,
  MIGRATE_FLAGS,
  MIGRATE_PARAMETER_NAMES,
  type RemoteDomain,
} from '@virt-trust/libvirt/migration-protocol.ts';
import { migrationXmlDigest } from '@virt-trust/libvirt/migration-xml.ts';
import type { TypedParameter } from '@virt-trust/libvirt/typed-params.ts';
import { requireDue, requireDueCookie, streamUri } from './distrust.ts';
import { isLibvirtError, readMigratable, stateOf } from './domain.ts';
import { betterOf, cancelled, destinationLost, noDomain } from './failures.ts';
import { type Journal, type Outcome, operatorNeeded } from './outcome.ts';
import { migrationFlags, migrationParameters, type StreamUris } from './parameters.ts';
import type { ConductionParts } from './parts.ts';
import { untilTransferEnded } from './recovery.ts';
import type { RpcClient } from './rpc-client.ts';
import { type Place, Settling } from './settling.ts';
import type { MigrationWatch } from './watch.ts';

/** `virDomainState`: VIR_DOMAIN_PAUSED. */
const PAUSED = 3;
const NONE = new Uint8Array();

/** What is known once the VM's transfer began. */
interface UnderWay {
  readonly source: RpcClient;
  readonly destination: RpcClient;
  readonly domain: RemoteDomain;
  readonly flags: number;
  readonly protection: number;
}

type Step = NonNullable<MigrationStatus['step']>;

/**
 * One migration by libvirt's protocol (virDomainMigrateVersion3Full), but for one thing: where it is not known whether
 * the VM was started at the destination, it is not started again at the source before that is known.
 */
export class Conduction {
  readonly #parts: ConductionParts;
  #step: Step = 'connect';
  #journal: Journal;

  constructor(parts: ConductionParts) {
    this.#parts = parts;
    this.#journal = { step: 'connect', uuid: null, finishSent: false, wasPaused: false, isPostCopy: false };
  }

  /** Runs it to its end, whatever happens. */
  async run(): Promise<Outcome> {
    const opened: RpcClient[] = [];
    try {
      return await this.#conduct(opened);
    } catch (error) {
      return this.#failed(error, 'source');
    } finally {
      for (const client of opened.reverse()) await client.close();
    }
  }

  async #conduct(opened: RpcClient[]): Promise<Outcome> {
    const { order, peer } = this.#parts;
    await this.#at('connect');
    const flags = migrationFlags(order);
    const source = await this.#parts.openSource();
    opened.push(source);
    const vm = await readMigratable(source, order.vm, {
      persistent: (flags & MIGRATE_FLAGS.persistDestination) !== 0,
      copies: order.options.copyStorage !== 'none' && !order.options.offline,
      copyDisks: order.options.copyDisks,
    });
    if (vm === undefined) return this.#failed(noDomain(order), 'neither');
    const { domain } = vm;
    await this.#note({ uuid: domain.uuid });
    await peer?.begin(vm);
    const streams = await this.#parts.streams();
    const destination = await this.#parts.openDestination();
    opened.push(destination);
    if ((flags & MIGRATE_FLAGS.offline) !== 0)
      for (const [client, where] of [
        [source, order.from],
        [destination, order.to],
      ] as const)
        if (!(await client.supports('offline')))
          throw new TrustError(
            'migration.offline',
            'failed',
            `cannot migrate ${order.vm}: libvirt of ${where} migrates no VM that is off`,
          );
    const protection = (await source.supports('changeProtection')) ? MIGRATE_FLAGS.changeProtection : 0;
    this.#refuseIfCancelled();

    await this.#at('begin');
    const sourceParams = migrationParameters(order, streams, 'source');
    const begun = await source.call(domainMigrateBegin3Params, {
      domain,
      params: sourceParams,
      flags: flags | protection,
    });
    const underWay = {
      source,
      destination,
      domain,
      flags: await this.#flagsFor(source, domain, flags),
      protection,
    };
    if (peer !== null && migrationXmlDigest(begun.xml) !== vm.xmlSha256)
      return await this.#takeBack(
        underWay,
        new TrustError(
          'migration.vm_changed',
          'conflict',
          `cannot migrate ${order.vm}: it was changed meanwhile`,
          {
            hint: 'try again',
          },
        ),
      );
    try {
      requireDue(order, { uuid: domain.uuid, xml: begun.xml, cookie: begun.cookieOut });
    } catch (error) {
      return await this.#takeBack(underWay, error);
    }
    return await this.#transfer(underWay, streams, { ...begun, persistentXml: vm.persistentXml });
  }

  async #transfer(
    underWay: UnderWay,
    streams: StreamUris,
    begun: { readonly cookieOut: Uint8Array; readonly xml: string; readonly persistentXml: string | null },
  ): Promise<Outcome> {
    const { order } = this.#parts;
    const { source, destination, domain, flags, protection } = underWay;
    await this.#at('prepare');
    if (this.#parts.isCancelled()) return await this.#takeBack(underWay, cancelled(order));
    const { destinationXml, uri } = MIGRATE_PARAMETER_NAMES;
    const destinationFlags = flags & ~(MIGRATE_FLAGS.abortOnError | MIGRATE_FLAGS.autoConverge);
    let prepared: { readonly cookieOut: Uint8Array; readonly uriOut: string | null };
    try {
      prepared = await destination.call(domainMigratePrepare3Params, {
        params: [
          ...migrationParameters(order, streams, 'destination'),
          { name: destinationXml, kind: 'string', value: begun.xml },
        ],
        cookieIn: begun.cookieOut,
        flags: destinationFlags,
      });
    } catch (error) {
      return await this.#takeBack(underWay, error);
    }
    let value: string;
    try {
      // The destination says the port; through agents' streams each side has its own URI.
      value = order.stream === null ? streams.source : streamUri(order.stream, prepared.uriOut);
    } catch (error) {
      await this.#finishCancelled(underWay, destinationFlags).catch(() => {});
      return await this.#takeBack(underWay, error);
    }
    const streamParams = migrationParameters(order, streams, 'source').map(
      (parameter): TypedParameter =>
        parameter.name === uri ? { name: uri, kind: 'string', value } : parameter,
    );
    // As it was granted: of a VM that is not defined libvirt would send a form of its own.
    const stored: TypedParameter[] =
      begun.persistentXml === null
        ? []
        : [{ name: MIGRATE_PARAMETER_NAMES.persistentXml, kind: 'string', value: begun.persistentXml }];
    const params = [...streamParams, ...stored];
    if ((flags & MIGRATE_FLAGS.offline) !== 0)
      return await this.#finish({ ...underWay, flags }, params, NONE, destinationFlags);

    await this.#at('perform');
    const watch = this.#parts.watch(source, domain);
    const over = new AbortController();
    const watching = watch.run(over.signal);
    // Without the destination's libvirt nobody could start the VM there: no need to stop it for that.
    void destination.lost.then(() => (over.signal.aborted ? undefined : watch.abandon()));
    let performed: { readonly cookieOut: Uint8Array } | undefined;
    let failure: unknown;
    try {
      const answer = await source.call(domainMigratePerform3Params, {
        domain,
        destinationUri: null,
        params,
        cookieIn: prepared.cookieOut,
        flags: flags | protection,
      });
      requireDueCookie(order, { uuid: domain.uuid, cookie: answer.cookieOut });
      performed = answer;
    } catch (error) {
      failure = error;
    }
    if (watch.isPostCopy) await this.#note({ isPostCopy: true });
    try {
      if (performed === undefined)
        return await this.#performFailed(underWay, destinationFlags, failure, watch);
      return await this.#finish(underWay, params, performed.cookieOut, destinationFlags);
    } finally {
      over.abort();
      await watching;
    }
  }

  /** Finish: the VM starts at the destination. From here on nobody knows where it may run unless libvirt says so. */
  async #finish(
    underWay: UnderWay,
    params: readonly TypedParameter[],
    cookieIn: Uint8Array,
    destinationFlags: number,
  ): Promise<Outcome> {
    const { destination, domain } = underWay;
    if (destination.isLost && !this.#journal.isPostCopy)
      return await this.#settle(underWay, 'source', await destination.lost);
    this.#step = 'finish';
    // SECURITY: durable before it is sent, so that a successor of this process knows that the VM may run there.
    await this.#note({ step: 'finish', finishSent: true });
    let confirmCookie: Uint8Array = NONE;
    let failure: unknown;
    let place: Place;
    try {
      const finished = await destination.call(domainMigrateFinish3Params, {
        params: [{ name: MIGRATE_PARAMETER_NAMES.destinationName, kind: 'string', value: domain.name }],
        cookieIn,
        flags: destinationFlags,
        cancelled: 0,
      });
      confirmCookie = finished.cookieOut;
      place = 'destination';
    } catch (error) {
      failure = error;
      place = await this.#settling(underWay).whereAfter(error);
    }
    return await this.#settle(underWay, place, failure, { params, cookie: confirmCookie });
  }

  /** Has the destination remove what it prepared. */
  async #finishCancelled({ destination, domain }: UnderWay, flags: number): Promise<unknown> {
    return await destination.call(domainMigrateFinish3Params, {
      params: [{ name: MIGRATE_PARAMETER_NAMES.destinationName, kind: 'string', value: domain.name }],
      cookieIn: NONE,
      flags,
      cancelled: 1,
    });
  }

  async #performFailed(
    underWay: UnderWay,
    destinationFlags: number,
    failure: unknown,
    watch: MigrationWatch,
  ): Promise<Outcome> {
    const { order } = this.#parts;
    const { domain, destination } = underWay;
    // What the destination says is said better by Perform's own error but for QEMU's death.
    const atDestination = await this.#finishCancelled(underWay, destinationFlags)
      .then(() => undefined)
      .catch((error: unknown) => error);
    // Lost, and not told: it may be under way still, and must not be confirmed before its end.
    if (!isLibvirtError(failure)) await untilTransferEnded(domain.uuid, this.#parts);
    const reason = betterOf(failure, atDestination);
    const trouble = this.#parts.streamTrouble();
    const told = watch.wasTimedOut
      ? new TrustError(
          'migration.timeout',
          'failed',
          `cannot migrate ${order.vm}: it was not over after ${order.options.timeoutSeconds} s and was ended: ${describeError(reason)}`,
          {
            hint: 'give it more time (--timeout), or --auto-converge, --post-copy or --timeout-action suspend for a VM that writes faster than the network carries',
          },
        )
      : watch.wasAbandoned
        ? destinationLost(order, reason, await destination.lost)
        : trouble === null
          ? reason
          : new TrustError('migration.stream', 'failed', `${describeError(reason)} (${trouble})`);
    return await this.#settle(underWay, 'source', told);
  }

  /** Ends what Begin began; the VM never stopped. */
  async #takeBack(underWay: UnderWay, reason: unknown): Promise<Outcome> {
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
    return await this.#failedAtSource(underWay, reason);
  }

  async #settle(
    underWay: UnderWay,
    place: Place,
    failure: unknown,
    confirm: { readonly params: readonly TypedParameter[]; readonly cookie: Uint8Array } = {
      params: [],
      cookie: NONE,
    },
  ): Promise<Outcome> {
    const { order } = this.#parts;
    if (place === 'unknown') return await this.#unknown(underWay, failure);
    if (place === 'post-copy-failed') return operatorNeeded(order, place, this.#step, failure);
    const step = this.#step;
    if (this.#journal.finishSent) await this.#at('confirm');
    const { flags, protection } = underWay;
    const settled = await this.#settling(underWay).settle(place, {
      params: confirm.params,
      cookieIn: confirm.cookie,
      flags: flags | protection,
      isOffline: (flags & MIGRATE_FLAGS.offline) !== 0,
    });
    if (settled.kind === 'unsettled') return operatorNeeded(order, place, 'confirm', settled.reason);
    if (place === 'destination')
      return {
        phase: 'done',
        step: null,
        runsOn: (flags & MIGRATE_FLAGS.offline) !== 0 ? 'neither' : 'destination',
        error: null,
      };
    if (settled.kind === 'post-copy-failed') return operatorNeeded(order, 'post-copy-failed', step, failure);
    this.#step = step;
    return this.#failed(failure, settled.kind === 'gone' ? 'neither' : 'source');
  }

  /** A VM in post-copy must not go on at the source, and what the source has of it must not be thrown away. */
  async #unknown({ source, domain }: UnderWay, failure: unknown): Promise<Outcome> {
    const seen = await stateOf(source, domain.uuid).catch(() => undefined);
    // Somebody else may have begun post-copy.
    const isPostCopy = this.#journal.isPostCopy || seen?.reason.startsWith('post-copy') === true;
    return operatorNeeded(
      this.#parts.order,
      isPostCopy ? 'post-copy-unknown' : 'unknown',
      this.#step,
      failure,
    );
  }

  async #failedAtSource({ source, domain }: UnderWay, reason: unknown): Promise<Outcome> {
    const seen = await stateOf(source, domain.uuid).catch(() => undefined);
    return this.#failed(reason, seen === null ? 'neither' : 'source');
  }

  #settling(underWay: Pick<UnderWay, 'source' | 'domain'>): Settling {
    const { order, openSource, openDestination, peer, now, sleep } = this.#parts;
    return new Settling({
      order,
      uuid: underWay.domain.uuid,
      wasPaused: this.#journal.wasPaused,
      openSource,
      openDestination,
      peer,
      now,
      sleep,
      source: underWay.source,
    });
  }

  #failed(error: unknown, runsOn: NonNullable<MigrationStatus['runsOn']>): Outcome {
    const message = describeError(error);
    const hint = isTrustError(error) ? error.hint : undefined;
    const phase = this.#parts.isCancelled() ? 'cancelled' : 'failed';
    return {
      phase,
      step: this.#step,
      runsOn,
      error: phase === 'cancelled' ? null : { message, hint: hint ?? null },
    };
  }

  /** A VM that is paused before stays so at the destination. */
  async #flagsFor(source: RpcClient, domain: RemoteDomain, flags: number): Promise<number> {
    if ((flags & MIGRATE_FLAGS.offline) !== 0) return flags;
    const { state } = await source.call(domainGetState, { domain, flags: 0 });
    if (state !== PAUSED) return flags;
    await this.#note({ wasPaused: true });
    return flags | MIGRATE_FLAGS.paused;
  }

  #refuseIfCancelled(): void {
    if (this.#parts.isCancelled()) throw cancelled(this.#parts.order);
  }

  async #at(step: Step): Promise<void> {
    this.#step = step;
    await this.#note({ step });
  }

  async #note(change: Partial<Journal>): Promise<void> {
    this.#journal = { ...this.#journal, ...change };
    await this.#parts.journal(this.#journal);
  }
}
