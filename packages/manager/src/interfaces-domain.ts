import { describeError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import type { Core } from './core.ts';
import type { HostsContext } from './hosts/ports.ts';
import { Declaring, type DeclaringParts } from './interfaces/declaring.ts';
import { bearsOnInterfaces } from './interfaces/interface-settings.ts';
import { Reaction } from './interfaces/reaction.ts';
import type { CertificateRepository } from './issuance/certificate-record.ts';

export interface InterfacesDomainParts {
  readonly context: HostsContext;
  readonly certificates: CertificateRepository;
  /** The job `host-provision`. */
  readonly job: DeclaringParts['job'];
  readonly isFrozen: () => Promise<boolean>;
  /** Calls the listener each time that the fleet is let go on. */
  readonly onThaw: (listener: () => void) => void;
}

/** What hosts are declared with, and what keeps that and their certificates up with them. */
export interface InterfacesDomain {
  readonly declaring: Declaring;
  /** To be called when a host was greeted on a channel that came up. */
  greeted(id: HostId): void;
  start(): Promise<void>;
  close(): Promise<void>;
}

/** Puts declarations on the store, the settings and the jobs. */
export function composeInterfaces(core: Core, parts: InterfacesDomainParts): InterfacesDomain {
  const { settings, jobs, clock, randomness, log, signal } = core;
  const { repository, channels, managerNamesFor, mayCertify, revocations } = parts.context;
  const declaring = new Declaring({
    repository,
    settings,
    certificates: parts.certificates,
    revocations,
    managerNamesFor,
    mayCertify,
    jobs,
    job: parts.job,
  });
  const reaction = new Reaction({
    declaring,
    repository,
    jobs,
    isUp: (id) => channels.stateOf(id)?.kind === 'up',
    isHeld: async () => revocations.isHeld() || (await parts.isFrozen()),
    clock,
    randomness,
    log,
    signal,
  });
  const inBackground = (work: Promise<void>) => {
    work.catch((error: unknown) => {
      if (!signal.aborted) log.error({}, `cannot declare hosts anew: ${describeError(error)}`);
    });
  };
  repository.onChange((id) => reaction.written(id));
  settings.onChange((name, place) => {
    if (bearsOnInterfaces(name)) inBackground(reaction.settingsChanged(place));
  });
  revocations.onResume(() => inBackground(reaction.resume()));
  parts.onThaw(() => inBackground(reaction.resume()));
  core.metrics.gauge(
    'virt_trust_refused_names',
    'Names and addresses that hosts report and get no certificate for, by rule.',
    async () => [...reaction.refusedByRule()].map(([rule, value]) => ({ labels: { rule }, value })),
  );
  return {
    declaring,
    greeted: (id) => reaction.channelUp(id),
    start: () => reaction.start(),
    close: () => reaction.idle(),
  };
}
