import type { Clock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import { inParallel } from '@virt-trust/base/in-parallel.ts';
import type { RevokedParty } from '@virt-trust/contract/model/crl.ts';
import type { Authorities } from '../authorities/authorities.ts';
import type { Host, HostRepository } from '../hosts/host.ts';
import type { OwnClient } from '../hosts/ports.ts';
import type { JobContext } from '../jobs/job.ts';
import type { Canaries } from './canary.ts';
import type { Crl } from './crl.ts';
import type { CrlIssuer } from './crl-issuer.ts';
import { type CrlDelivery, type DeliveryOutcome, purposesOf, takesCrls } from './delivery.ts';
import { type HostProof, proveRefusal } from './host-proof.ts';

export interface EnforcementParts {
  readonly authorities: Authorities;
  readonly issuer: CrlIssuer;
  readonly delivery: CrlDelivery;
  readonly canaries: Canaries;
  readonly hosts: HostRepository;
  readonly ownClient: () => Promise<OwnClient>;
  readonly clock: Clock;
}

/** So many hosts are told at once. */
const AT_ONCE = 64;
const WORDS = 4000;

interface Told {
  readonly delivery: DeliveryOutcome;
  readonly proof: HostProof | null;
}

/** Makes what was revoked count: signs the CRLs, brings them to every host that is up, and proves it there. */
export class Enforcement {
  readonly #parts: EnforcementParts;

  constructor(parts: EnforcementParts) {
    this.#parts = parts;
  }

  /** As steps of a job; what came of it in words. Throws `revocation.not_enforced` where a host that is up goes without. */
  async run(how: 'if-needed' | 'anew', parties: readonly RevokedParty[], job: JobContext): Promise<string> {
    const crls = await job.step('Sign the CRLs', async (report) => {
      const signed = await this.sign(how);
      report(signed.map(describeCrl).join('; '));
      return signed;
    });
    const hosts = (await this.#parts.hosts.list()).filter(takesCrls);
    const canary = crls.find(({ canary: serial }) => serial !== null)?.canary ?? null;
    const work = hosts.map(() => Promise.withResolvers<DeliveryOutcome>());
    // Nobody may be there to see them fail.
    for (const { promise } of work) promise.catch(() => {});
    const bring = job.step('Bring them to the hosts', async (report) => {
      const outcomes = await inParallel([...hosts.keys()], AT_ONCE, async (index) => {
        const outcome = await this.#parts.delivery.deliver(hosts[index] as Host, parties, job.signal);
        work[index]?.resolve(outcome);
        return outcome;
      });
      report(describeDeliveries(outcomes));
    });
    // A host is tried as soon as it has them, whichever other is still waited for.
    const prove = job.step('Prove that hosts refuse what is revoked', async (report) => {
      const told = await Promise.all(
        work.map(async ({ promise }, index): Promise<Told> => {
          const delivery = await promise;
          const host = hosts[index] as Host;
          const isDue = delivery.kind === 'current' && purposesOf(host).includes('control');
          return { delivery, proof: isDue ? await this.#prove(host, canary, job.signal) : null };
        }),
      );
      report(describeProofs(told));
      return told;
    });
    // Should bringing fail as a whole, nothing waits for hosts that nobody tells.
    bring.catch((error: unknown) => {
      for (const { reject } of work) reject(error);
    });
    const [told] = await Promise.all([prove, bring]);
    return conclusionOf(told);
  }

  /** Brings what is signed to every host without a job; never throws. */
  async spread(signal: AbortSignal, parties: readonly RevokedParty[] = []): Promise<DeliveryOutcome[]> {
    const hosts = (await this.#parts.hosts.list()).filter(takesCrls);
    return inParallel(hosts, AT_ONCE, (host) => this.#parts.delivery.deliver(host, parties, signal));
  }

  async sign(how: 'if-needed' | 'anew'): Promise<Crl[]> {
    const { authorities, issuer } = this.#parts;
    return Promise.all(authorities.list().map(({ name }) => issuer.ensure(name, how)));
  }

  async #prove(host: Host, canary: Crl['canary'], signal: AbortSignal): Promise<HostProof> {
    const { authorities, canaries, ownClient, clock } = this.#parts;
    return proveRefusal({
      host,
      trust: authorities.bundle('control'),
      good: await ownClient(),
      canary: canaries.clientOf(canary),
      clock,
      signal,
    });
  }
}

function describeCrl(crl: Crl): string {
  return `${crl.authority} number ${crl.number.toString(16)}, ${crl.entries} ${crl.entries === 1 ? 'entry' : 'entries'}`;
}

function describeDeliveries(outcomes: readonly DeliveryOutcome[]): string {
  if (outcomes.length === 0) return 'there is no host to bring them to';
  // What went wrong first: a long list is cut.
  return [...outcomes]
    .sort((one, other) => RANK[one.kind] - RANK[other.kind])
    .map(describeDelivery)
    .join('; ')
    .slice(0, WORDS);
}

const RANK: Readonly<Record<DeliveryOutcome['kind'], number>> = { failed: 0, away: 1, current: 2 };

function describeDelivery(outcome: DeliveryOutcome): string {
  const { name } = outcome.host;
  switch (outcome.kind) {
    case 'failed':
      return `host ${name} failed: ${outcome.reason}`;
    case 'away':
      return `host ${name} is away and gets them when it is back: ${outcome.reason}`;
    case 'current':
      return `host ${name} has them${outcome.cut.length === 0 ? '' : `, cut ${outcome.cut.join(', ')}`}`;
  }
}

function describeProofs(told: readonly Told[]): string {
  const of = (kind: HostProof['kind']) => told.filter(({ proof }) => proof?.kind === kind);
  const refusing = of('refused').length;
  const parts = [
    `${refusing} ${refusing === 1 ? 'host refuses' : 'hosts refuse'} a client that is revoked and ${refusing === 1 ? 'lets' : 'let'} another in`,
    ...of('accepted').map(({ delivery }) => `host ${delivery.host.name} lets in a client that is revoked`),
    ...told.flatMap(({ delivery, proof }) =>
      proof?.kind === 'untried' ? [`host ${delivery.host.name} was not tried: ${proof.reason}`] : [],
    ),
  ];
  return parts.join('; ').slice(0, WORDS);
}

/** Throws `revocation.not_enforced`. */
function conclusionOf(told: readonly Told[]): string {
  const failed = told.flatMap(({ delivery, proof }) => {
    const { name } = delivery.host;
    if (delivery.kind === 'failed') return [`host ${name} has not loaded the CRLs: ${delivery.reason}`];
    if (proof?.kind === 'accepted')
      return [`host ${name} has the CRLs and lets in a client that is revoked all the same`];
    return [];
  });
  const away = told
    .filter(({ delivery }) => delivery.kind === 'away')
    .map(({ delivery }) => delivery.host.name);
  const current = told.filter(({ delivery }) => delivery.kind === 'current').length;
  const proven = told.filter(({ proof }) => proof?.kind === 'refused').length;
  const waiting = away.length === 0 ? '' : `; ${away.join(', ')} will have them when they are back`;
  const words = `${current} of ${told.length} hosts have the newest CRLs, proven on ${proven}${waiting}`;
  if (failed.length === 0) return words;
  throw new TrustError(
    'revocation.not_enforced',
    'failed',
    `the revocation stands, and is not enforced everywhere: ${failed.join('; ').slice(0, WORDS)} (${words})`,
    {
      hint: 'cut these hosts off from the others until that is mended (see tls_no_verify_certificate and crl_file in their libvirtd.conf), then: virt-trust crl refresh',
    },
  );
}
