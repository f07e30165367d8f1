import type { Clock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import { formatInstant, type Instant } from '@virt-trust/base/instant.ts';
import type { RevocationReason } from '@virt-trust/contract/model/certificate.ts';
import type { DesiredCredential, SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import { SERVICES } from '@virt-trust/contract/model/service.ts';
import { parseTbsCertificate } from '@virt-trust/pki/certificate.ts';
import type { SerialNumber } from '@virt-trust/pki/serial-number.ts';
import type { Authorities } from '../authorities/authorities.ts';
import { claimKey } from '../hosts/claim-key.ts';
import { credentialNames } from '../hosts/desired-state.ts';
import type { Host } from '../hosts/host.ts';
import type { RevocationRepository } from './revocation.ts';

/** Who asks, why, and what for. */
export interface Asked {
  readonly reason: RevocationReason;
  readonly comment: string;
  readonly actor: string;
  /** The same each time that it is tried again. */
  readonly origin: string;
}

/** The names that a service of a host was to have. */
type PlannedNames = Pick<DesiredCredential, 'service' | 'names'>;

export interface RevokingParts {
  readonly repository: RevocationRepository;
  readonly authorities: Authorities;
  readonly clock: Clock;
  /** Told of what was revoked or released, by authority. */
  readonly onChange: (authorities: readonly string[]) => void;
}

/** Revokes certificates: what may be revoked, and what belongs together. */
export class Revoking {
  readonly #parts: RevokingParts;

  constructor(parts: RevokingParts) {
    this.#parts = parts;
  }

  /** Throws what speaks against revoking it: `certificate.unknown`, `certificate.of_authority`, `certificate.revoked`. */
  check(serialNumber: SerialNumber, reason: RevocationReason): void {
    this.#refuseAuthority(serialNumber);
    const status = this.#parts.repository.statusOf(serialNumber);
    switch (status.kind) {
      case 'unknown':
        throw unknown(serialNumber, 'revoke');
      case 'revoked':
        if (status.reason !== 'certificateHold' || reason === 'certificateHold')
          throw already(serialNumber, status.at, status.reason);
        return;
      case 'good':
    }
  }

  /** Revokes one certificate; the same order again changes nothing. */
  async revoke(serialNumber: SerialNumber, asked: Asked): Promise<void> {
    this.#refuseAuthority(serialNumber);
    const [outcome] = await this.#parts.repository.revoke({ serials: [serialNumber], ...asked });
    switch (outcome?.kind) {
      case 'already':
        throw already(serialNumber, outcome.at, outcome.reason);
      case 'revoked':
      case 'done-before':
        return this.#changed();
      case 'unknown':
      case undefined:
        throw unknown(serialNumber, 'revoke');
    }
  }

  /** Takes a certificate off hold; where it is on none, nothing happens. */
  async release(serialNumber: SerialNumber, actor: string): Promise<void> {
    await this.#parts.repository.release(serialNumber, actor);
    this.#changed();
  }

  /** Throws `certificate.unknown`, `certificate.not_revoked`, or `certificate.revoked` for what is for ever. */
  checkRelease(serialNumber: SerialNumber): void {
    const status = this.#parts.repository.statusOf(serialNumber);
    if (status.kind === 'unknown') throw unknown(serialNumber, 'release');
    if (status.kind === 'good') {
      throw new TrustError(
        'certificate.not_revoked',
        'conflict',
        `cannot release certificate ${serialNumber}: it is not revoked`,
      );
    }
    if (status.reason === 'certificateHold') return;
    throw new TrustError(
      'certificate.revoked',
      'conflict',
      `cannot release certificate ${serialNumber}: it was revoked for ${status.reason} at ${formatInstant(status.at)}, which is for ever`,
      { hint: 'have a new one made: virt-trust host provision HOST --renew' },
    );
  }

  /** Revokes every live certificate of a host and of migrations from it, and keeps new ones from it until `lift`. */
  revokeHost(host: Host, asked: Asked): Promise<readonly SerialNumber[]> {
    return this.#revokeHost(host, asked, true);
  }

  /** Revokes every live certificate of a host that goes. */
  retireHost(host: Host, asked: Asked): Promise<readonly SerialNumber[]> {
    return this.#revokeHost(host, asked, false);
  }

  async lift(host: string): Promise<void> {
    await this.#parts.repository.lift(host);
  }

  /**
   * Revokes certificates of a host's services with names or addresses that are not those of the service's endpoints any
   * more, now that others are proven in their place; answers how many. What was planned for it is left alone, also where
   * its endpoints have others since: that is for the next time.
   *
   * SECURITY: which certificate the host serves is nothing to go by, since a broken one would say the old one.
   */
  async revokeEstranged(
    host: Host,
    planned: readonly PlannedNames[],
    asked: Omit<Asked, 'reason' | 'comment'>,
  ): Promise<number> {
    const { repository, clock } = this.#parts;
    const live = await repository.live(host.name, clock.now(), 'services');
    const estranged = live.filter(({ service, tbs }) => {
      const plan = planned.find((one) => one.service === service);
      if (plan !== undefined && isWithin(plan.names, host, tbs)) return false;
      return !isStillOf(host, service, tbs);
    });
    if (estranged.length === 0) return 0;
    await repository.revoke({
      ...asked,
      serials: estranged.map(({ serialNumber }) => serialNumber),
      reason: 'affiliationChanged',
      comment: `not all of its names and addresses are those of its service on host ${host.name} any more`,
    });
    this.#changed();
    return estranged.length;
  }

  /** Whether a certificate of a host's services counts that has a name or address of none of its endpoints any more. */
  async hasEstranged(host: Host): Promise<boolean> {
    const { repository, clock } = this.#parts;
    const live = await repository.live(host.name, clock.now(), 'services');
    return live.some(({ service, tbs }) => !isStillOf(host, service, tbs));
  }

  async #revokeHost(host: Host, asked: Asked, bar: boolean): Promise<readonly SerialNumber[]> {
    const revoked = await this.#parts.repository.revokeHost({
      ...asked,
      host: { name: host.name, addresses: host.declared.names.addresses },
      bar,
    });
    this.#changed();
    return revoked;
  }

  #changed(): void {
    this.#parts.onChange(this.#parts.authorities.list().map(({ name }) => name));
  }

  #refuseAuthority(serialNumber: SerialNumber): void {
    for (const { name, issuing, root } of this.#parts.authorities.list()) {
      const which =
        issuing.serialNumber === serialNumber
          ? 'the issuing CA'
          : root.serialNumber === serialNumber
            ? 'the root'
            : undefined;
      if (which === undefined) continue;
      throw new TrustError(
        'certificate.of_authority',
        'conflict',
        `cannot revoke certificate ${serialNumber}: it is ${which} of authority ${name} itself, which no CRL of its own can revoke`,
        { hint: 'an authority that is not trusted any more has to be replaced on every host' },
      );
    }
  }
}

/** Whether every name and address in a certificate is one of its service's endpoints on the host. */
function isStillOf(host: Host, service: string | null, tbs: Uint8Array): boolean {
  const known = SERVICES.find((one) => one === service);
  return isWithin(known === undefined ? host.declared.names : credentialNames(host, known).names, host, tbs);
}

function isWithin({ dns, addresses }: SubjectAltNames, host: Host, tbs: Uint8Array): boolean {
  const own = new Set([...dns, ...addresses, host.name].map(claimKey));
  const names = parseTbsCertificate(tbs).extensions.subjectAltName?.names ?? [];
  return names.every((name) => (name.kind === 'dns' || name.kind === 'ip') && own.has(claimKey(name.value)));
}

function unknown(serialNumber: string, verb: string): TrustError {
  return new TrustError(
    'certificate.unknown',
    'not-found',
    `cannot ${verb} certificate ${serialNumber}: no authority here has issued it`,
    { hint: 'see them with: virt-trust certificate list' },
  );
}

function already(serialNumber: string, at: Instant, reason: RevocationReason): TrustError {
  return new TrustError(
    'certificate.revoked',
    'conflict',
    `cannot revoke certificate ${serialNumber}: it was revoked for ${reason} at ${formatInstant(at)}`,
    reason === 'certificateHold'
      ? {
          hint: `give a reason that is for ever, or take it off hold: virt-trust certificate release ${serialNumber}`,
        }
      : { hint: 'to sign the CRLs anew and bring them to the hosts again: virt-trust crl refresh' },
  );
}
