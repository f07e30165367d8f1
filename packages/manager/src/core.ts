import type { Clock } from '@virt-trust/base/clock.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import type { RefusalLimit } from './access/refusal-limit.ts';
import type { Tokens } from './access/tokens.ts';
import type { AlarmSources } from './alarms/alarm-sources.ts';
import type { AuditLog } from './audit/audit-log.ts';
import type { EventLog } from './events/event-log.ts';
import type { AnnounceListenOptions } from './hosts/announcements.ts';
import type { SettingPut } from './http/handlers/settings.ts';
import type { Handlers } from './http/handlers.ts';
import type { StatusHandler } from './http/status-http.ts';
import type { JobRunner } from './jobs/job-runner.ts';
import type { Metrics } from './metrics/metrics.ts';
import type { Seal } from './seal/seal.ts';
import type { SealKeyPlace } from './seal/seal-key-file.ts';
import type { Settings } from './settings/settings.ts';
import type { Database } from './store/database.ts';

/** What every domain of the manager builds on. */
export interface Core {
  readonly version: string;
  readonly stateDirectory: string;
  /** The program file that enrolment copies to hosts. */
  readonly agentProgram: string | undefined;
  /** Where hosts may announce themselves; nowhere where left out. */
  readonly announceListen: AnnounceListenOptions | undefined;
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly log: Log;
  /** For the repositories of `store/` alone. */
  readonly database: Database;
  readonly seal: Seal;
  readonly sealKeyPlace: SealKeyPlace;
  readonly audit: AuditLog;
  readonly events: EventLog;
  readonly jobs: JobRunner;
  readonly settings: Settings;
  readonly tokens: Tokens;
  readonly refusals: RefusalLimit;
  readonly metrics: Metrics;
  /** Where domains make known what is wrong. */
  readonly alarms: AlarmSources;
  /** Aborted when the manager stops. */
  readonly signal: AbortSignal;
}

/** A part of the manager: what it answers, and what it does while the manager runs. */
export interface Domain {
  readonly handlers: Partial<Handlers>;
  /** Answers whoever asks for CRLs and OCSP, without a token. */
  readonly status?: StatusHandler;
  /** After jobs were taken up again and the API listens. */
  start?(): Promise<void>;
  /** Throws where the domain can't serve now. */
  ready?(): Promise<void>;
  /** After the API and the jobs have stopped. */
  close?(): Promise<void>;
  /** The cluster of a host, for settings; throws `not-found` for an unknown host. */
  clusterOf?(host: string): Promise<string>;
  /** What comes of a setting that was put: what whoever did it should know, and the jobs that bring it to hosts. */
  settingPut?: SettingPut;
}

/** Builds a domain, and makes its jobs and metrics known to the core. */
export type ComposeDomain = (core: Core) => Promise<Domain>;
