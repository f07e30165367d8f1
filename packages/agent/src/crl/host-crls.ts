import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { formatInstant, instant } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { CrlDelivery, InstalledCrl, RevokedParty } from '@virt-trust/contract/model/crl.ts';
import { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import { PURPOSE_OF_SERVICE, type Purpose, type Service } from '@virt-trust/contract/model/service.ts';
import type { Crls } from '../ports/crls.ts';
import { type Session, sessionsOf } from '../services/sessions.ts';
import type { Barrier } from '../sets/barrier.ts';
import { clean } from '../sets/failure.ts';
import { Found } from '../sets/found.ts';
import { FOUND_GENERATION, Serving } from '../sets/serving.ts';
import { Staging } from '../sets/staging.ts';
import { Document } from '../state/document.ts';
import type { AgentPaths } from '../state/paths.ts';
import type { CrlEffects } from './effects.ts';
import { CRL_SERVICES, CrlPlaces } from './places.ts';
import { type CrlRecord, crlDocument } from './record.ts';
import { type VerifiedDelivery, verifyDelivery } from './verify.ts';

export interface HostCrlsOptions {
  readonly paths: AgentPaths;
  readonly effects: CrlEffects;
  readonly clock: Clock;
  readonly log: Log;
  /** Says durably what happened. */
  readonly emit: (kind: string, subject: string, message: string) => Promise<void>;
  readonly barrier: Barrier;
  /** How long a daemon that restarts is waited for before the answer says that it has not loaded a CRL. */
  readonly loadBoundMs: number;
  /** How often what is pending is tried again, and ages are looked at; null for never. */
  readonly tickMs: number | null;
  /** When sessions are looked at once more, for those whose handshake was under way; null for never. */
  readonly secondLookMs: number | null;
}

const ATTEMPT_PAUSE_MS = 250;
const WORDS = 1000;

/**
 * The CRLs of this host. They are state of their own beside the desired state: their numbers only grow, whichever way
 * generations go, and they are installed at once, also while an application waits for the manager.
 */
export class HostCrls implements Crls {
  readonly #options: HostCrlsOptions;
  readonly #records: ReturnType<typeof crlDocument>;
  readonly #desired: Document<typeof DesiredState>;
  readonly #places: CrlPlaces;
  readonly #serving: Serving;
  #turn: Promise<unknown> = Promise.resolve();
  #stopped = false;
  #timer: NodeJS.Timeout | undefined;
  readonly #looks = new Set<NodeJS.Timeout>();
  #steps = 0;

  constructor(options: HostCrlsOptions) {
    const { paths } = options;
    this.#options = options;
    this.#records = crlDocument(paths);
    this.#desired = new Document(paths.desiredState, DesiredState, 'Remove it and provision the host again.');
    const found = new Found(paths);
    const staging = new Staging(paths);
    this.#serving = new Serving(paths, staging);
    this.#places = new CrlPlaces(paths, { found, serving: this.#serving, staging });
  }

  /** Begins to finish what a crash cut off; does not wait for its end. */
  start(): void {
    void this.#work(async () => {
      for (const service of CRL_SERVICES)
        if (await this.#places.write(service))
          await this.#setPending(service, 'its file was not as it was kept');
      await this.#finishAll();
    }).catch((error) => this.#lost(error));
    const { tickMs } = this.#options;
    if (tickMs === null) return;
    this.#timer = setInterval(() => {
      void this.#work(() => this.#tick()).catch((error) => this.#lost(error));
    }, tickMs);
    this.#timer.unref();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    for (const timer of this.#looks) clearTimeout(timer);
    await this.#turn;
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    await this.#turn;
  }

  /**
   * Installs CRLs, all or, where one is no good, none; then cuts the sessions of those who were revoked. One for a
   * purpose of which the host serves nothing is passed over: there is no authority to verify it by.
   */
  async put(
    crls: readonly CrlDelivery[],
    revoked: readonly RevokedParty[],
  ): Promise<{ crls: InstalledCrl[]; disconnected: string[] }> {
    return await this.#work(async () => {
      for (const one of await this.#verify(crls)) await this.#keep(one);
      await this.#finishAll();
      const disconnected = revoked.length === 0 ? [] : await this.#cut(revoked);
      return { crls: await this.#places.installed(), disconnected };
    });
  }

  /** What is installed, in PEM; waits for no daemon. */
  async held(): Promise<CrlDelivery[]> {
    return (await this.#places.records()).map(({ installed, pem }) => ({
      purpose: installed.purpose,
      crl: pem,
    }));
  }

  async #verify(deliveries: readonly CrlDelivery[]): Promise<VerifiedDelivery[]> {
    const records = await this.#places.records();
    const desired = await this.#desired.read();
    const verified: VerifiedDelivery[] = [];
    for (const delivery of deliveries) {
      const { purpose } = delivery;
      try {
        if (deliveries.filter((one) => one.purpose === purpose).length > 1) throw twice(purpose);
        const bundle = bundleOf(desired, purpose);
        if (bundle === undefined) continue;
        const known = records.find(({ installed }) => installed.purpose === purpose);
        verified.push(verifyDelivery(delivery, bundle, known, this.#options.clock.now()));
      } catch (error) {
        const code = isTrustError(error) ? error.code : 'crl.unreadable';
        await this.#options.emit('crl.refused', purpose, clean(`${code}: ${describeError(error)}`));
        throw error;
      }
    }
    return verified;
  }

  /** From here on no older one is taken, and a crash ends with this one loaded. */
  async #keep({ kind, installed, issuerPin, pem }: VerifiedDelivery): Promise<void> {
    if (kind === 'same') return;
    await this.#step(`keep-${installed.purpose}`);
    const pending = CRL_SERVICES.filter((service) => PURPOSE_OF_SERVICE[service] === installed.purpose).map(
      (service) => ({ service, reason: 'it is being installed' }),
    );
    const installedAt = this.#options.clock.now();
    const record: CrlRecord = {
      installed: { ...installed, installedAt, failure: null },
      issuerPin,
      pem,
      pending,
      said: 'nothing',
    };
    const others = (await this.#places.records()).filter(
      (one) => one.installed.purpose !== installed.purpose,
    );
    await this.#records.write({ crls: [...others, record] });
  }

  /** Writes the files of pending services and has them loaded; a daemon that takes its time holds no other up. */
  async #finishAll(): Promise<void> {
    const records = (await this.#places.records()).filter(({ pending }) => pending.length > 0);
    const services = records.flatMap(({ pending }) => pending.map(({ service }) => service));
    const reasons = new Map<Service, string>();
    const attempt = async (service: Service, work: () => Promise<string | undefined>) => {
      const reason = await work().catch(describeError);
      if (reason !== undefined) reasons.set(service, clean(reason).slice(0, WORDS));
    };
    for (const service of services) {
      await this.#step(`write-${service}`);
      await attempt(service, async () => void (await this.#places.write(service)));
    }
    const written = services.filter((service) => !reasons.has(service));
    await Promise.all(
      written.map(async (service) => {
        await this.#step(`load-${service}`);
        await attempt(service, () => this.#load(service));
      }),
    );
    for (const record of records) {
      const pending = record.pending.flatMap(({ service }) => {
        const reason = reasons.get(service);
        return reason === undefined ? [] : [{ service, reason }];
      });
      await this.#step(`note-${record.installed.purpose}`);
      await this.#replace({ ...record, pending });
      await this.#say(record, { ...record, pending });
    }
  }

  /** Has a service's CRL loaded; why that did not work, undefined where it did. */
  async #load(service: Service): Promise<string | undefined> {
    // Before its first generation of ours nothing reads it; the application that switches to one loads it.
    if (((await this.#serving.current(service)) ?? FOUND_GENERATION) === FOUND_GENERATION) return undefined;
    const { effects, loadBoundMs } = this.#options;
    const deadline = performance.now() + loadBoundMs;
    let stopped = 0;
    for (;;) {
      try {
        await effects.load(service);
        return undefined;
      } catch (error) {
        if (isTrustError(error, 'vnc.arriving')) return describeError(error);
        // A daemon that restarts is stopped for a moment.
        stopped = service === 'libvirt' && (await effects.stopped()) ? stopped + 1 : 0;
        if (stopped > 2) return 'the libvirt daemon is stopped; it loads the CRL when it starts';
        if (performance.now() >= deadline || this.#stopped) return describeError(error);
      }
      await new Promise((resolve) => setTimeout(resolve, ATTEMPT_PAUSE_MS));
    }
  }

  async #say(before: CrlRecord, { installed, pending }: CrlRecord): Promise<void> {
    const { purpose, number, issuer, entries, nextUpdate } = installed;
    const which = `number ${number} of ${issuer}, ${entries} entries, until ${formatInstant(instant(nextUpdate))}`;
    if (pending.length === 0) return await this.#options.emit('crl.installed', purpose, which);
    const reasons = pending.map(({ service, reason }) => `${service}: ${reason}`).join('; ');
    const known = before.pending.map(({ service, reason }) => `${service}: ${reason}`).join('; ');
    if (reasons === known) return;
    await this.#options.emit('crl.not_loaded', purpose, `${which}; not loaded by ${reasons}; tried again`);
  }

  async #setPending(service: Service, reason: string): Promise<void> {
    const record = (await this.#places.records()).find(
      ({ installed }) => installed.purpose === PURPOSE_OF_SERVICE[service],
    );
    if (record === undefined) return;
    const others = record.pending.filter((one) => one.service !== service);
    await this.#replace({ ...record, pending: [...others, { service, reason }] });
  }

  async #replace(record: CrlRecord): Promise<void> {
    const records = await this.#places.records();
    // Given back meanwhile: then nothing of it is kept any more.
    if (!records.some(({ installed }) => installed.purpose === record.installed.purpose)) return;
    const others = records.filter(({ installed }) => installed.purpose !== record.installed.purpose);
    await this.#records.write({ crls: [...others, record] });
  }

  /** Tries again what is pending, and says once when a CRL is about to be too old, and when it is. */
  async #tick(): Promise<void> {
    await this.#finishAll();
    const now = this.#options.clock.now();
    for (const record of await this.#places.records()) {
      const { purpose, number, issuer, thisUpdate, nextUpdate } = record.installed;
      const said =
        now >= nextUpdate
          ? 'stale'
          : now >= nextUpdate - (nextUpdate - thisUpdate) * DUE_SHARE
            ? 'due'
            : 'nothing';
      if (said === record.said) continue;
      await this.#replace({ ...record, said });
      if (said === 'nothing') continue;
      const words =
        said === 'due' ? 'no newer one came, and it holds until' : 'no newer one came, and it held until';
      const message = `number ${number} of ${issuer}: ${words} ${formatInstant(instant(nextUpdate))}`;
      await this.#options.emit(`crl.${said}`, purpose, message);
    }
  }

  /** Ends the sessions of revoked parties; what they are called. */
  async #cut(revoked: readonly RevokedParty[]): Promise<string[]> {
    const { effects, secondLookMs } = this.#options;
    try {
      const sessions = await effects.sessions();
      const cut = await this.#end(sessionsOf(sessions, revoked));
      if (secondLookMs !== null) this.#lookAgain(revoked, sessions, secondLookMs);
      return cut.slice(0, 4096);
    } catch (cause) {
      if (await effects.stopped().catch(() => false)) return [];
      const reason = describeError(cause);
      await this.#options.emit('session.not_cut', 'libvirt', clean(reason));
      throw new TrustError(
        'session.not_cut',
        'failed',
        `cannot end the sessions of revoked parties: ${reason}`,
        {
          hint: 'the CRL is installed and keeps new connections out; ask again, or restart the daemon',
          cause,
        },
      );
    }
  }

  async #end(sessions: readonly Session[]): Promise<string[]> {
    if (sessions.length === 0) return [];
    await this.#options.effects.cut(sessions);
    const words = sessions.map(({ id, address, subject }) =>
      clean(
        `libvirt session ${id} of ${subject ?? 'a client whose handshake was under way'}${address === undefined ? '' : ` from ${address}`}`,
      ).slice(0, WORDS),
    );
    for (const one of words.slice(0, 64))
      await this.#options.emit('session.cut', 'libvirt', `${one}: its certificate was revoked`);
    return words;
  }

  /**
   * SECURITY: a handshake that was under way ends by the CRL that was loaded when it began. What has no identity by now,
   * seconds later, is no honest client.
   */
  #lookAgain(revoked: readonly RevokedParty[], before: readonly Session[], after: number): void {
    const nameless = new Set(before.filter(({ subject }) => subject === undefined).map(({ id }) => id));
    const timer = setTimeout(() => {
      this.#looks.delete(timer);
      void this.#work(async () => {
        const { effects } = this.#options;
        const sessions = await effects.sessions();
        const named = await effects.namesEverySession();
        const late = sessions.filter(({ id, subject }) => named && subject === undefined && nameless.has(id));
        await this.#end([...sessionsOf(sessions, revoked), ...late]);
      }).catch((error) => this.#lost(error));
    }, after);
    timer.unref();
    this.#looks.add(timer);
  }

  async #step(name: string): Promise<void> {
    await this.#options.barrier(this.#steps++, `crl-${name}`);
  }

  #lost(error: unknown): void {
    this.#options.log.error({ error: describeError(error) }, 'work on CRLs interrupted');
  }

  /** One piece of work after the other. */
  #work<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => {});
    return turn;
  }
}

/** Of a CRL's life, how much is left when it is said to be due. */
const DUE_SHARE = 0.1;

/** What a purpose's own certificates are issued by on this host, as it is desired. */
function bundleOf(desired: DesiredState | undefined, purpose: Purpose): string | undefined {
  return desired?.credentials.find(
    ({ service }) => PURPOSE_OF_SERVICE[service] === purpose && CRL_SERVICES.includes(service),
  )?.bundle;
}

function twice(purpose: Purpose): TrustError {
  return new TrustError('crl.twice', 'invalid', `cannot install CRLs: there is more than one for ${purpose}`);
}
