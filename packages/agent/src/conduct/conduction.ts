import {
  domainGetState,
  domainMigrateBegin3Params,
  domainMigrateFinish3Params,
  domainMigratePerform3Params,
  domainMigratePrepare3Params,
  MIGRATE_FLAGS,
  MIGRATE_PARAMETER_NAMES,
  type RemoteDomain,
} from '@virt-trust/libvirt/migration-protocol.ts';
import { migrationXmlDigest } from '@virt-trust/libvirt/migration-xml.ts';
import type { TypedParameter } from '@virt-trust/libvirt/typed-params.ts';
import { ConductionJournal } from './conduction-journal.ts';
import { requireDue, requireDueCookie, streamUri } from './distrust.ts';
import { readMigratable } from './domain.ts';
import { Ending, type UnderWay } from './ending.ts';
import { cancelled, noDomain, noOffline, vmChanged } from './failures.ts';
import type { Outcome } from './outcome.ts';
import { migrationFlags, migrationParameters, type StreamUris } from './parameters.ts';
import type { ConductionParts } from './parts.ts';
import type { RpcClient } from './rpc-client.ts';

/** `virDomainState`: VIR_DOMAIN_PAUSED. */
const PAUSED = 3;
const NONE = new Uint8Array();

/**
 * One migration by libvirt's protocol (virDomainMigrateVersion3Full), but for one thing: where it is not known whether
 * the VM was started at the destination, it is not started again at the source before that is known.
 */
export class Conduction {
  readonly #parts: ConductionParts;
  readonly #journal: ConductionJournal;
  readonly #ending: Ending;

  constructor(parts: ConductionParts) {
    this.#parts = parts;
    this.#journal = new ConductionJournal(parts.journal);
    this.#ending = new Ending(parts, this.#journal);
  }

  /** Runs it to its end, whatever happens. */
  async run(): Promise<Outcome> {
    const opened: RpcClient[] = [];
    try {
      return await this.#conduct(opened);
    } catch (error) {
      return this.#ending.failed(error, 'source');
    } finally {
      for (const client of opened.reverse()) await client.close();
    }
  }

  async #conduct(opened: RpcClient[]): Promise<Outcome> {
    const { order, peer } = this.#parts;
    await this.#journal.note({ step: 'connect' });
    const flags = migrationFlags(order);
    const source = await this.#parts.openSource();
    opened.push(source);
    const vm = await readMigratable(source, order.vm, {
      persistent: (flags & MIGRATE_FLAGS.persistDestination) !== 0,
      copies: order.options.copyStorage !== 'none' && !order.options.offline,
      copyDisks: order.options.copyDisks,
    });
    if (vm === undefined) return this.#ending.failed(noDomain(order), 'neither');
    const { domain } = vm;
    await this.#journal.note({ uuid: domain.uuid });
    await peer?.begin(vm);
    const streams = await this.#parts.streams();
    const destination = await this.#parts.openDestination();
    opened.push(destination);
    if ((flags & MIGRATE_FLAGS.offline) !== 0)
      for (const [client, where] of [
        [source, order.from],
        [destination, order.to],
      ] as const)
        if (!(await client.supports('offline'))) throw noOffline(order, where);
    const protection = (await source.supports('changeProtection')) ? MIGRATE_FLAGS.changeProtection : 0;
    this.#refuseIfCancelled();

    await this.#journal.note({ step: 'begin' });
    const sourceParams = migrationParameters(order, streams, 'source');
    const begun = await source.call(domainMigrateBegin3Params, {
      domain,
      params: sourceParams,
      flags: flags | protection,
    });
    const flagsOfVm = await this.#flagsFor(source, domain, flags);
    const underWay: UnderWay = {
      source,
      destination,
      domain,
      flags: flagsOfVm,
      protection,
      destinationFlags: flagsOfVm & ~(MIGRATE_FLAGS.abortOnError | MIGRATE_FLAGS.autoConverge),
    };
    if (peer !== null && migrationXmlDigest(begun.xml) !== vm.xmlSha256)
      return await this.#ending.takeBack(underWay, vmChanged(order));
    try {
      requireDue(order, { uuid: domain.uuid, xml: begun.xml, cookie: begun.cookieOut });
    } catch (error) {
      return await this.#ending.takeBack(underWay, error);
    }
    return await this.#prepare(underWay, streams, { ...begun, persistentXml: vm.persistentXml });
  }

  /** Prepare: the destination listens. */
  async #prepare(
    underWay: UnderWay,
    streams: StreamUris,
    begun: { readonly cookieOut: Uint8Array; readonly xml: string; readonly persistentXml: string | null },
  ): Promise<Outcome> {
    const { order } = this.#parts;
    const { destination, flags, destinationFlags } = underWay;
    await this.#journal.note({ step: 'prepare' });
    if (this.#parts.isCancelled()) return await this.#ending.takeBack(underWay, cancelled(order));
    const { destinationXml, persistentXml, uri } = MIGRATE_PARAMETER_NAMES;
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
      return await this.#ending.takeBack(underWay, error);
    }
    let value: string;
    try {
      // The destination says the port; through agents' streams each side has its own URI.
      value = order.stream === null ? streams.source : streamUri(order.stream, prepared.uriOut);
    } catch (error) {
      return await this.#ending.takeBackPrepared(underWay, error);
    }
    const streamParams = migrationParameters(order, streams, 'source').map(
      (parameter): TypedParameter =>
        parameter.name === uri ? { name: uri, kind: 'string', value } : parameter,
    );
    // As it was granted: of a VM that is not defined libvirt would send a form of its own.
    const stored: TypedParameter[] =
      begun.persistentXml === null
        ? []
        : [{ name: persistentXml, kind: 'string', value: begun.persistentXml }];
    const params = [...streamParams, ...stored];
    if ((flags & MIGRATE_FLAGS.offline) !== 0) return await this.#finish(underWay, params, NONE);
    return await this.#perform(underWay, params, prepared.cookieOut);
  }

  /** Perform: the VM's memory and disks go over. */
  async #perform(
    underWay: UnderWay,
    params: readonly TypedParameter[],
    cookieIn: Uint8Array,
  ): Promise<Outcome> {
    const { source, destination, domain, flags, protection } = underWay;
    await this.#journal.note({ step: 'perform' });
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
        cookieIn,
        flags: flags | protection,
      });
      requireDueCookie(this.#parts.order, { uuid: domain.uuid, cookie: answer.cookieOut });
      performed = answer;
    } catch (error) {
      failure = error;
    }
    if (watch.isPostCopy) await this.#journal.note({ isPostCopy: true });
    try {
      if (performed === undefined) return await this.#ending.performFailed(underWay, failure, watch);
      return await this.#finish(underWay, params, performed.cookieOut);
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
  ): Promise<Outcome> {
    const { destination, domain, destinationFlags } = underWay;
    if (destination.isLost && !this.#journal.now.isPostCopy)
      return await this.#ending.settle(underWay, 'source', await destination.lost);
    // SECURITY: durable before it is sent, so that a successor of this process knows that the VM may run there.
    await this.#journal.note({ step: 'finish', finishSent: true });
    let finished: { readonly cookieOut: Uint8Array };
    try {
      finished = await destination.call(domainMigrateFinish3Params, {
        params: [{ name: MIGRATE_PARAMETER_NAMES.destinationName, kind: 'string', value: domain.name }],
        cookieIn,
        flags: destinationFlags,
        cancelled: 0,
      });
    } catch (error) {
      return await this.#ending.finishFailed(underWay, error, params);
    }
    return await this.#ending.settle(underWay, 'destination', undefined, {
      params,
      cookie: finished.cookieOut,
    });
  }

  /** A VM that is paused before stays so at the destination. */
  async #flagsFor(source: RpcClient, domain: RemoteDomain, flags: number): Promise<number> {
    if ((flags & MIGRATE_FLAGS.offline) !== 0) return flags;
    const { state } = await source.call(domainGetState, { domain, flags: 0 });
    if (state !== PAUSED) return flags;
    await this.#journal.note({ wasPaused: true });
    return flags | MIGRATE_FLAGS.paused;
  }

  #refuseIfCancelled(): void {
    if (this.#parts.isCancelled()) throw cancelled(this.#parts.order);
  }
}
