import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { type Instant, instant, MINUTE } from '@virt-trust/base/instant.ts';
import { PURPOSE_OF_SERVICE, type Service } from '@virt-trust/contract/model/service.ts';
import { type Certificate, parseCertificates } from '@virt-trust/pki/certificate.ts';
import { formatGeneralName, type GeneralName } from '@virt-trust/pki/general-name.ts';
import { canonicalIpAddress } from '@virt-trust/pki/ip-address.ts';
import { formatName, namesEqual } from '@virt-trust/pki/name.ts';
import { isSerialNumber } from '@virt-trust/pki/serial-number.ts';
import { verifySignatureOnPool } from '@virt-trust/pki/signature.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Authorities } from '../authorities/authorities.ts';
import type { Authority } from '../authorities/authority.ts';
import type { Settings } from '../settings/settings.ts';
import type { CertificateRepository } from './certificate-record.ts';
import type { DeclaredHost } from './declared-names.ts';
import { PROFILE_OF_SERVICE } from './issuance.ts';

export interface CertificateAdoptionParts {
  readonly authorities: Pick<Authorities, 'list'>;
  readonly certificates: CertificateRepository;
  readonly audit: AuditLog;
  readonly settings: Pick<Settings, 'value'>;
  readonly clock: Clock;
}

/** A certificate that a host was found to serve. */
export interface ServedByHost {
  readonly host: DeclaredHost;
  readonly service: Service;
  /** PEM; the first certificate counts. */
  readonly pem: string;
}

export type AdoptionOutcome =
  | { readonly kind: 'known' }
  /** Not from an authority of this manager. */
  | { readonly kind: 'foreign' }
  | { readonly kind: 'adopted'; readonly serialNumber: string }
  | { readonly kind: 'refused'; readonly reason: string };

const ACTION = 'certificate.adopt';
/** SECURITY: of one host; what it makes up more than that fills neither log nor memory. */
const MOST_REFUSED = 64;

/**
 * Records certificates that our authorities issued and this store does not know, because it was restored from a backup
 * that is older: renewal, revocation and status then know them like any other. Each is audited.
 */
export class CertificateAdoption {
  readonly #parts: CertificateAdoptionParts;
  /** Refused before, so that one entry tells of it and not one for each time that the host is looked at. */
  readonly #refused = new Map<string, Set<string>>();

  constructor(parts: CertificateAdoptionParts) {
    this.#parts = parts;
  }

  async isKnown(serialNumber: string): Promise<boolean> {
    return isSerialNumber(serialNumber) && (await this.#parts.certificates.find(serialNumber)) !== null;
  }

  async adopt(served: ServedByHost): Promise<AdoptionOutcome> {
    const [certificate] = parseCertificates(served.pem);
    if (certificate === undefined) return { kind: 'foreign' };
    const { authorities, certificates } = this.#parts;
    const authority = authorities
      .list()
      .find(({ issuing }) => namesEqual(issuing.subject, certificate.issuer));
    if (authority === undefined) return { kind: 'foreign' };
    if ((await certificates.find(certificate.serialNumber)) !== null) return { kind: 'known' };
    try {
      await check(certificate, authority, served);
      return await this.#record(certificate, authority, served);
    } catch (error) {
      if (!(error instanceof TrustError)) throw error;
      return this.#refuse(certificate, served, error);
    }
  }

  async #record(
    certificate: Certificate,
    authority: Authority,
    { host, service }: ServedByHost,
  ): Promise<AdoptionOutcome> {
    const { serialNumber, pin, notBefore, notAfter, tbs, signature } = certificate;
    const detail = `${formatName(certificate.subject)} of ${authority.name}, ${pin}: served as ${service} by host ${host.name}, issued by us after the state that this store was restored from`;
    const [outcome] = await this.#parts.certificates.commit([
      {
        kind: 'adopt',
        intent: {
          serialNumber,
          authority: authority.name,
          profile: PROFILE_OF_SERVICE[service].name,
          holder: { kind: 'host', host: host.name, service },
          pin,
          tbs,
          issuedAt: await this.#issuedAt(notBefore),
          notAfter,
        },
        signature,
        audit: { actor: 'manager', action: ACTION, subject: serialNumber, outcome: 'done', detail },
      },
    ]);
    if (outcome?.kind !== 'key-reused') return { kind: 'adopted', serialNumber };
    throw new TrustError(
      'adoption.key_reused',
      'conflict',
      `cannot adopt certificate ${serialNumber}: its key was certified for somebody else`,
    );
  }

  /** Certificates are back-dated; when exactly they were made is not in them. */
  async #issuedAt(notBefore: Instant): Promise<Instant> {
    const { settings, clock } = this.#parts;
    const backdating = (await settings.value('certificate.backdate_minutes')) * MINUTE;
    return instant(Math.min(notBefore + backdating, clock.now()));
  }

  async #refuse(
    { serialNumber }: Certificate,
    { host, service }: ServedByHost,
    error: TrustError,
  ): Promise<AdoptionOutcome> {
    const reason = describeError(error);
    const key = `${service} ${serialNumber}`;
    const before = this.#refused.get(host.name) ?? new Set();
    this.#refused.set(host.name, before);
    if (!before.has(key) && before.size < MOST_REFUSED) {
      before.add(key);
      await this.#parts.audit.append([
        {
          actor: 'manager',
          action: ACTION,
          subject: serialNumber,
          outcome: 'refused',
          detail: `served as ${service} by host ${host.name}: ${reason}`,
        },
      ]);
    }
    return { kind: 'refused', reason };
  }
}

/** SECURITY: a host tells of itself alone: our signature, its own names, the purpose of the service. */
async function check(
  certificate: Certificate,
  authority: Authority,
  { host, service }: ServedByHost,
): Promise<void> {
  const what = `certificate ${certificate.serialNumber}`;
  await verifySignatureOnPool(certificate.tbs, certificate, authority.issuing.publicKey, what);
  if (authority.purpose !== PURPOSE_OF_SERVICE[service])
    throw refused(what, `it is for ${authority.purpose} and is served as ${service}`);
  const declared = new Set([
    ...host.names.dns.map((name) => `dns:${name.toLowerCase()}`),
    ...host.names.addresses.map((address) => `ip:${canonicalIpAddress(address)}`),
  ]);
  const names = certificate.extensions.subjectAltName?.names ?? [];
  const other = names.find((name) => !declared.has(keyOf(name)));
  if (names.length === 0) throw refused(what, 'it names no host');
  if (other !== undefined)
    throw refused(what, `it names ${formatGeneralName(other)}, which host ${host.name} has not`);
}

function keyOf(name: GeneralName): string {
  switch (name.kind) {
    case 'dns':
      return `dns:${name.value.toLowerCase()}`;
    case 'ip':
      return `ip:${canonicalIpAddress(name.value)}`;
    default:
      return '';
  }
}

function refused(what: string, reason: string): TrustError {
  return new TrustError('adoption.not_of_host', 'denied', `cannot adopt ${what}: ${reason}`);
}
