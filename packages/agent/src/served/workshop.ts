import { join } from 'node:path';
import type { Clock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Log } from '@virt-trust/base/log.ts';
import { CrlPlaces } from '../crl/places.ts';
import { Rescuer } from '../rescue/rescuer.ts';
import type { HostEffects } from '../services/host-effects.ts';
import { ApplyState, EMPTY_STATE, Journal, Verdict, WaitRecord } from '../sets/apply-state.ts';
import type { Barrier } from '../sets/barrier.ts';
import { Found, type FoundManifest } from '../sets/found.ts';
import { Links } from '../sets/links.ts';
import { journalFromOlder } from '../sets/older-state.ts';
import { Reserve } from '../sets/reserve.ts';
import { Serving } from '../sets/serving.ts';
import { SettingsFiles } from '../sets/settings-files.ts';
import { Staging } from '../sets/staging.ts';
import { Document } from '../state/document.ts';
import type { AgentPaths } from '../state/paths.ts';

/** What the applying part of the agent is given. */
export interface ApplyOptions {
  readonly paths: AgentPaths;
  readonly effects: HostEffects;
  readonly clock: Clock;
  readonly log: Log;
  /** Says durably what happened. */
  readonly emit: (kind: string, subject: string, message: string) => Promise<void>;
  readonly barrier: Barrier;
  /** How long the manager's own proof is waited for. */
  readonly proofBoundMs: number;
}

/** The places and documents that the steps of an application work with. */
export class Workshop {
  readonly options: ApplyOptions;
  readonly found: Found;
  readonly staging: Staging;
  readonly serving: Serving;
  readonly links: Links;
  readonly crls: CrlPlaces;
  readonly settings: SettingsFiles;
  readonly journal: Document<typeof Journal>;
  /** The manager's word on the generation of libvirt that waits for it. */
  readonly verdict: Document<typeof Verdict>;
  /** Since when a restart of the daemon waits for migrations. */
  readonly waiting: Document<typeof WaitRecord>;
  readonly reserve: Reserve;
  readonly rescuer: Rescuer;
  readonly #state: Document<typeof ApplyState>;

  constructor(options: ApplyOptions) {
    const { paths } = options;
    const wayOut = `Remove it and provision the host again; what is served stays as it is meanwhile.`;
    this.options = options;
    this.found = new Found(paths);
    this.staging = new Staging(paths);
    this.serving = new Serving(paths, this.staging);
    this.links = new Links(paths, this.found, this.serving);
    this.crls = new CrlPlaces(paths, { found: this.found, serving: this.serving, staging: this.staging });
    this.settings = new SettingsFiles(paths, this.found);
    this.journal = new Document(paths.journal, Journal, wayOut, journalFromOlder);
    this.verdict = new Document(join(paths.agent, 'verdict.json'), Verdict, wayOut);
    this.waiting = new Document(join(paths.agent, 'restart-wait.json'), WaitRecord, 'Remove it.');
    this.rescuer = new Rescuer(paths, options.clock);
    this.reserve = new Reserve(join(paths.agent, 'reserve'));
    this.#state = new Document(join(paths.agent, 'apply.json'), ApplyState, wayOut);
  }

  async state(): Promise<ApplyState> {
    return (await this.#state.read()) ?? EMPTY_STATE;
  }

  async saveState(state: ApplyState): Promise<void> {
    await this.#state.write(state);
  }

  async removeState(): Promise<void> {
    await this.#state.remove();
  }

  /** What was found; throws `internal` where it was not kept yet. */
  async manifest(): Promise<FoundManifest> {
    const manifest = await this.found.read();
    if (manifest !== undefined) return manifest;
    throw new TrustError(
      'adoption.not_kept',
      'internal',
      'cannot change the host: what was found is not kept',
    );
  }
}
