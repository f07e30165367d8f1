import { describeError } from '@virt-trust/base/error.ts';
import { isSpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type { ServedEndpoint } from '@virt-trust/contract/model/observed-state.ts';
import { VmName } from '@virt-trust/contract/model/primitives.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import type { HostFacts } from '../services/host-effects.ts';
import type { Sighting, Where } from '../services/sighting.ts';
import { LAYOUTS } from '../sets/layout.ts';
import { QUIET_MS } from '../sets/repair-count.ts';
import { contestedPaths, filesOfServices } from './files.ts';
import { type Expected, judge, line } from './judge.ts';
import { type ServedRecord, servedDocument } from './record.ts';
import type { Workshop } from './workshop.ts';

const MAX_ENDPOINTS = 4096;
/** A VM by its name, where that is one that the contract can carry; the target names it anyway. */
function vmName(name: string | undefined): string | null {
  try {
    return validatorOf(VmName)(name, 'the name of a VM');
  } catch {
    return null;
  }
}

/** What is served at every endpoint, compared with what should be; repaired where that disturbs no VM. */
export class ServedWatch {
  readonly #workshop: Workshop;
  readonly #document: ReturnType<typeof servedDocument>;
  #records: ServedRecord[] | undefined;

  constructor(workshop: Workshop) {
    this.#workshop = workshop;
    this.#document = servedDocument(workshop.options.paths);
  }

  /** What the last look came to. */
  async endpoints(): Promise<ServedEndpoint[]> {
    return (await this.#known()).map(({ repairs: _, repairedAt: __, ...endpoint }) => endpoint);
  }

  /** Forgets how often endpoints were repaired: something new is served. */
  async resetCounts(): Promise<void> {
    const known = await this.#known();
    if (known.some(({ repairs }) => repairs > 0))
      await this.#save(known.map((one) => ({ ...one, repairs: 0, repairedAt: null })));
  }

  /** Forgets everything: nothing of ours is served on this host any more. */
  async forget(): Promise<void> {
    this.#records = [];
    await this.#document.remove();
  }

  /** Makes a handshake everywhere; changes nothing and may take a while. */
  async look(desired: DesiredState, facts: HostFacts): Promise<Sighting[]> {
    const { effects } = this.#workshop.options;
    const services = [...(await this.#expected()).keys()];
    const sightings = await effects.look(await this.#where(desired, services), facts);
    // A VM that ended or moved away meanwhile is no finding.
    const running = new Set((await effects.runningVms()).map(({ uuid }) => uuid));
    return sightings.filter(({ vm }) => vm === null || running.has(vm.uuid));
  }

  /** Says and notes what was seen, and repairs what may be; to be called while no application runs. */
  async conclude(desired: DesiredState, facts: HostFacts, sightings: readonly Sighting[]): Promise<void> {
    const expected = await this.#expected();
    const records = await this.#judgeAll(desired, expected, sightings);
    const repairable = records.filter(({ state, action }) => state === 'drifted' && action === '');
    const repaired = repairable.length === 0 ? [] : await this.#repair(desired, facts, sightings, repairable);
    const seenAgain = new Map(repaired.map((record) => [record.target, record]));
    const all = records.map((record) => seenAgain.get(record.target) ?? record);
    const now = this.#workshop.options.clock.now();
    const others = [
      ...(await filesOfServices(this.#workshop, facts, expected)),
      ...(await contestedPaths(this.#workshop)),
    ].map((endpoint) => this.#dated({ ...endpoint, at: now }));
    await this.#note([...all, ...(await Promise.all(others))].slice(0, MAX_ENDPOINTS));
  }

  async #judgeAll(
    desired: DesiredState,
    expected: ReadonlyMap<Service, Expected>,
    sightings: readonly Sighting[],
  ): Promise<ServedRecord[]> {
    const at = this.#workshop.options.clock.now();
    const records: ServedRecord[] = [];
    for (const sighting of sightings) {
      const { service, target, vm } = sighting;
      const wanted = expected.get(service);
      if (wanted === undefined) continue;
      const before = await this.#before(target);
      const repairs = before?.repairs ?? 0;
      const judged = judge({ sighting, expected: wanted, settings: desired.settings, repairs });
      if (judged === undefined) continue;
      const endpoint = { service, target, vm: vmName(vm?.name), expectedPin: wanted.pin, at, ...judged };
      records.push(await this.#dated(endpoint));
    }
    return records;
  }

  /** Has the daemon or the VM read its files again, and looks whether that helped. */
  async #repair(
    desired: DesiredState,
    facts: HostFacts,
    sightings: readonly Sighting[],
    drifted: readonly ServedRecord[],
  ): Promise<ServedRecord[]> {
    const { effects, emit, clock } = this.#workshop.options;
    const places = sightings.filter(({ target }) => drifted.some((one) => one.target === target));
    const uuids = new Set(places.flatMap(({ vm }) => (vm === null ? [] : [vm.uuid])));
    const services = [...new Set(places.map(({ service }) => service))];
    const vms = facts.vms.filter(({ uuid }) => uuids.has(uuid));
    for (const record of drifted) await this.#say(record);
    const counted = drifted.map((one) => ({ ...one, repairs: one.repairs + 1, repairedAt: clock.now() }));
    // Counted before it is done, so that a crash repeats no more than the limit.
    await this.#merge(counted);
    for (const service of services) {
      try {
        await effects.reload(service, { ...facts, vms });
        await emit(
          'repair.done',
          service,
          'served another certificate than the one on disk; had it read anew',
        );
      } catch (error) {
        await emit('repair.failed', service, describeError(error));
      }
    }
    const again = await effects.look(await this.#where(desired, services), { ...facts, vms });
    const known = new Set(drifted.map(({ target }) => target));
    const expected = await this.#expected();
    return await this.#judgeAll(
      desired,
      expected,
      again.filter(({ target }) => known.has(target)),
    ).then((records) =>
      // What a reload did not mend is tried again at the next look, until the limit.
      records.map((one) => (one.state === 'contested' ? { ...one, state: 'drifted', action: '' } : one)),
    );
  }

  async #where(desired: DesiredState, services: readonly Service[]): Promise<Where> {
    const addresses = Object.fromEntries(
      desired.credentials.map(({ service, names }) => [service, names.addresses]),
    );
    const { staging } = this.#workshop;
    const number = (await this.#workshop.state()).services.find(({ service }) => service === 'vnc')?.current;
    const { bundle = '' } = number == null ? {} : await staging.content(LAYOUTS.vnc, number.number);
    return { services, addresses, consoleBundle: bundle };
  }

  /** What each service of ours serves by the last application. */
  async #expected(): Promise<Map<Service, Expected>> {
    const { services } = await this.#workshop.state();
    const rescues = await this.#workshop.rescuer.active();
    return new Map(
      services.flatMap(({ service, current }) => {
        if (current === null || !isSpkiPin(current.pin)) return [];
        const rescue = rescues.find((one) => one.service === service)?.reason ?? null;
        return [[service, { pin: current.pin, rescue }] as const];
      }),
    );
  }

  /** With the time since when it is so, and the counts of before. */
  async #dated(endpoint: Omit<ServedEndpoint, 'since'>): Promise<ServedRecord> {
    const before = await this.#before(endpoint.target);
    const same = before?.state === endpoint.state && before.expectedPin === endpoint.expectedPin;
    const quiet = before?.repairedAt != null && endpoint.at - before.repairedAt > QUIET_MS;
    const counts =
      before === undefined || (quiet && endpoint.state === 'as-desired')
        ? { repairs: 0, repairedAt: null }
        : { repairs: before.repairs, repairedAt: before.repairedAt };
    return { ...endpoint, since: same ? before.since : endpoint.at, ...counts };
  }

  async #note(records: ServedRecord[]): Promise<void> {
    for (const record of records) await this.#say(record);
    await this.#save(records);
  }

  /** Says it where it is not as it was. */
  async #say({ target, service, state, detail, action }: ServedRecord): Promise<void> {
    const before = await this.#before(target);
    if (before?.state === state || (before === undefined && state === 'as-desired')) return;
    const kind = `served.${state.replaceAll('-', '_')}`;
    const message = state === 'as-desired' ? 'serves what it should again' : detail;
    await this.#workshop.options.emit(
      kind,
      line(`${service} at ${target}`),
      action === '' ? message : `${message}; ${action}`,
    );
  }

  async #merge(changed: readonly ServedRecord[]): Promise<void> {
    const targets = new Set(changed.map(({ target }) => target));
    await this.#save([...(await this.#known()).filter(({ target }) => !targets.has(target)), ...changed]);
  }

  async #before(target: string): Promise<ServedRecord | undefined> {
    return (await this.#known()).find((one) => one.target === target);
  }

  async #known(): Promise<ServedRecord[]> {
    this.#records ??= (await this.#document.read().catch(() => undefined))?.endpoints ?? [];
    return this.#records;
  }

  /** On disk only what changed beside the time of the look, which every minute does. */
  async #save(records: ServedRecord[]): Promise<void> {
    const timeless = (all: readonly ServedRecord[]) => JSON.stringify(all.map(({ at: _, ...rest }) => rest));
    const changed = timeless(await this.#known()) !== timeless(records);
    this.#records = records;
    if (changed) await this.#document.write({ endpoints: records });
  }
}
