import { isDeepStrictEqual } from 'node:util';
import { TrustError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import { claimKey } from '../hosts/claim-key.ts';
import type { Claims, Host, HostRepository } from '../hosts/host.ts';
import { reportOf } from '../hosts/network-report.ts';
import type { HostRevocations } from '../hosts/ports.ts';
import type { CertificateRepository } from '../issuance/certificate-record.ts';
import type { JobDefinition } from '../jobs/job.ts';
import type { JobRunner } from '../jobs/job-runner.ts';
import type { Settings } from '../settings/settings.ts';
import { auditOfDeclaration } from './declaration-audit.ts';
import { declarationOf } from './declare.ts';
import { type InterfaceSettings, interfaceSettingsOf } from './interface-settings.ts';
import { outdatedServices } from './served-names.ts';

export interface DeclaringParts {
  readonly repository: HostRepository;
  readonly settings: Pick<Settings, 'value' | 'explain'>;
  readonly certificates: Pick<CertificateRepository, 'find'>;
  readonly revocations: Pick<HostRevocations, 'hasEstranged'>;
  /** Names and addresses of the manager's own machine, none for a host that runs on it. */
  readonly managerNamesFor: (host: Pick<Host, 'word'>) => SubjectAltNames;
  /** Whether the authorities may certify a name or address at all. */
  readonly mayCertify: (name: string) => boolean;
  readonly jobs: JobRunner;
  /** The job `host-provision`. */
  readonly job: JobDefinition<{ host: string; renew: boolean }>;
}

/** Keeps what hosts are declared with, and has their certificates follow. */
export class Declaring {
  readonly #parts: DeclaringParts;

  constructor(parts: DeclaringParts) {
    this.#parts = parts;
  }

  /**
   * Declares a host anew from the administrator's word, the settings and its last report, and keeps that with its audit
   * entries; what another host has is refused, everything else counts. Throws `host.unknown`.
   */
  async redeclare(id: HostId, actor: string): Promise<Host> {
    const { repository, settings } = this.#parts;
    for (;;) {
      const seen = await repository.get(id);
      if (seen === null) throw unknown(id);
      const terms = await interfaceSettingsOf(settings, seen);
      let read = true;
      const host = await repository.update(
        id,
        (now, claims) => {
          // Renamed or moved to another cluster meanwhile: other settings hold for it.
          read = now.name === seen.name && now.cluster === seen.cluster;
          return read ? this.#redeclared(now, terms, claims) : now;
        },
        (before, after) => auditOfDeclaration(before, after, actor),
      );
      if (read) return host;
    }
  }

  /**
   * Has a host provisioned where a certificate that it serves has other names than it is to have; null where there is
   * nothing to do, or the host is not ours to work on. What is queued already does it.
   */
  async bringRight(host: Host, actor: string): Promise<Job | null> {
    const { jobs, job } = this.#parts;
    if (!(await this.isOutdated(host))) return null;
    const queued = jobs
      .unfinished(job.kind)
      .find((record) => record.job.subject === host.name && record.job.state === 'queued');
    if (queued !== undefined) return queued.job;
    return jobs.enqueue(job, {
      subject: host.name,
      payload: { host: host.name, renew: false },
      actor,
      locks: [`host:${host.name}`],
    });
  }

  /**
   * Whether a certificate that the host serves has other names than it is to have. SECURITY: or one that counts has names
   * that it is to have no more: a broken host would let an address go and keep the certificate, unseen.
   */
  async isOutdated(host: Host): Promise<boolean> {
    const { certificates, revocations } = this.#parts;
    if (!isWorkedOn(host)) return false;
    return (await outdatedServices(host, certificates)).length > 0 || (await revocations.hasEstranged(host));
  }

  #redeclared(host: Host, settings: InterfaceSettings, { holderOf }: Claims): Host {
    const report = reportOf(host);
    if (host.state === 'removing') return host;
    if (report === null) return withoutReleased(host);
    const declared = declarationOf({
      host,
      report,
      settings,
      managerNames: this.#parts.managerNamesFor(host),
      holderOf,
      mayCertify: this.#parts.mayCertify,
    });
    const reported = new Set(
      report.interfaces.flatMap(({ addresses }) => addresses.map(({ address }) => claimKey(address))),
    );
    const before = host.word.released ?? [];
    const released = before.filter((address) => reported.has(claimKey(address)));
    const gone = released.length < before.length;
    if (!gone && isDeepStrictEqual(declared, host.declared)) return host;
    return { ...host, declared, ...(gone && { word: { ...host.word, released } }) };
  }
}

/** SECURITY: a host that reports nothing keeps what it was declared with, but not against an administrator. */
function withoutReleased(host: Host): Host {
  const { declared, word } = host;
  const released = new Set((word.released ?? []).map(claimKey));
  const stays = (address: string) => !released.has(claimKey(address));
  if (declared.names.addresses.every(stays)) return host;
  const without = ({ dns, addresses }: SubjectAltNames) => ({ dns, addresses: addresses.filter(stays) });
  const interfaces = declared.interfaces
    .map((one) => ({ ...one, names: without(one.names) }))
    .filter(({ names }) => names.dns.length + names.addresses.length > 0);
  return { ...host, declared: { ...declared, names: without(declared.names), interfaces } };
}

/** Under management, and neither revoked nor on its way in or out. */
function isWorkedOn({ observeOnly, state, revoked }: Host): boolean {
  return !observeOnly && revoked === undefined && state !== 'removing' && state !== 'enrolling';
}

function unknown(id: HostId): TrustError {
  return new TrustError('host.unknown', 'not-found', `cannot declare host ${id}: it was removed meanwhile`);
}
