import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { type Instant, MINUTE } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import { PURPOSE_OF_SERVICE, type Purpose, type Service } from '@virt-trust/contract/model/service.ts';
import { prepareCertificate } from '@virt-trust/pki/certificate-issue.ts';
import { encodeSigned } from '@virt-trust/pki/extension-encode.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { LEAF_PROFILES, type LeafProfile } from '@virt-trust/pki/profiles.ts';
import { verifyProofOfPossession } from '@virt-trust/pki/request.ts';
import { newSerialNumber, type SerialNumber } from '@virt-trust/pki/serial-number.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Authorities } from '../authorities/authorities.ts';
import type { Authority } from '../authorities/authority.ts';
import type { Settings } from '../settings/settings.ts';
import type {
  CertificateChange,
  CertificateRepository,
  ChangeOutcome,
  Holder,
} from './certificate-record.ts';
import type { DeclaredHost, DeclaredNames } from './declared-names.ts';
import { GroupCommit } from './group-commit.ts';
import { lifetimeOf } from './lifetime.ts';
import { type Grant, grantClientSubject, grantHostNames } from './policy.ts';
import { presentTemplate } from './present-template.ts';
import { parseRequestPem } from './request-form.ts';
import { validityOf } from './validity.ts';

export interface IssuanceOptions {
  readonly authorities: Authorities;
  readonly certificates: CertificateRepository;
  readonly declaredNames: DeclaredNames;
  readonly settings: Settings;
  readonly audit: AuditLog;
  readonly log: Log;
  readonly clock: Clock;
  readonly randomness: Randomness;
  /** Under which the manager itself is known: certified for no other host. */
  readonly managerNames: (host: DeclaredHost) => SubjectAltNames;
}

/** A request that a host's agent made, or an operator brought. */
export interface HostOrder {
  readonly host: string;
  readonly service: Service;
  /** PEM. */
  readonly csr: string;
  /** As the audit log names it. */
  readonly actor: string;
}

/** A request of a client for one task. */
export interface ClientOrder {
  readonly csr: string;
  readonly commonName: string;
  readonly minutes: number;
  /** Valid as long on a host whose clock is ahead by all that is allowed; for keys that never leave this process. */
  readonly anyClock?: boolean;
  /** For signing OCSP answers for that purpose's authority, instead of for a client of libvirt. */
  readonly responderOf?: Purpose;
  /** The host that has the key; left out where it stays in this process. */
  readonly heldBy?: string;
  readonly actor: string;
}

export interface IssuedCertificate {
  readonly serialNumber: SerialNumber;
  readonly pin: SpkiPin;
  readonly notAfter: Instant;
  readonly pem: string;
}

/** What is certified, once every decision was made. */
interface Decision {
  readonly authority: Authority;
  readonly profile: LeafProfile;
  readonly holder: Holder;
  readonly grant: Grant;
  /** Milliseconds. */
  readonly lifetime: number;
  readonly publicKey: Uint8Array;
  readonly pin: SpkiPin;
  readonly actor: string;
}

/** By which profile a service's certificates are made. */
export const PROFILE_OF_SERVICE: Readonly<Record<Service, LeafProfile>> = {
  libvirt: LEAF_PROFILES['libvirt-server'],
  migration: LEAF_PROFILES.migration,
  vnc: LEAF_PROFILES['vnc-server'],
  spice: LEAF_PROFILES['spice-server'],
  nbd: LEAF_PROFILES.storage,
  backup: LEAF_PROFILES.storage,
};

const ACTION = 'certificate.issue';
const REFUSALS: readonly TrustError['category'][] = ['invalid', 'denied', 'conflict', 'not-found'];

/**
 * Issues certificates: who may ask, how long, what comes out and which names are decided apart, then the certificate is
 * prepared and linted, recorded durably with its audit entry, signed and handed out; the mark that it was issued follows
 * with the next unit of work. Refusals are audited with their rule.
 */
export class Issuance {
  readonly #options: IssuanceOptions;
  readonly #changes: GroupCommit<CertificateChange, ChangeOutcome>;
  readonly #unmarked: (CertificateChange & { readonly kind: 'issued' })[] = [];

  constructor(options: IssuanceOptions) {
    this.#options = options;
    this.#changes = new GroupCommit((changes) => options.certificates.commit(changes));
  }

  /** A certificate for a service of a host; throws `issuance.*` with the rule that refused. */
  issueForHost(order: HostOrder): Promise<IssuedCertificate> {
    return this.#audited(order.actor, `${order.host} ${order.service}`, async () => {
      const { declaredNames, authorities, managerNames } = this.#options;
      const request = parseRequestPem(order.csr);
      const host = await declaredNames.find(order.host);
      if (host === null) throw unknownHost(order.host);
      const authority = authorities.byPurpose(PURPOSE_OF_SERVICE[order.service]);
      const grant = grantHostNames({
        host,
        service: order.service,
        organization: authority.organization,
        request,
        managerNames: managerNames(host),
      });
      const { pin } = await verifyProofOfPossession(request);
      return this.#issue({
        authority,
        profile: PROFILE_OF_SERVICE[order.service],
        holder: { kind: 'host', host: host.name, service: order.service },
        grant,
        lifetime: await this.#lifetimeOf(host, order.service),
        publicKey: request.spki,
        pin,
        actor: order.actor,
      });
    });
  }

  /** A client certificate of the control authority, or one of an OCSP responder, valid for minutes. */
  issueClient(order: ClientOrder): Promise<IssuedCertificate> {
    return this.#audited(order.actor, order.commonName, async () => {
      const request = parseRequestPem(order.csr);
      const authority = this.#options.authorities.byPurpose(order.responderOf ?? 'control');
      const { commonName } = order;
      const grant = grantClientSubject(request, { commonName, organization: authority.organization });
      const { pin } = await verifyProofOfPossession(request);
      const ahead = order.anyClock === true ? await this.#backdating() : 0;
      return this.#issue({
        authority,
        profile: LEAF_PROFILES[order.responderOf === undefined ? 'libvirt-client' : 'ocsp-responder'],
        holder: { kind: 'client', heldBy: order.heldBy ?? null },
        grant,
        lifetime: order.minutes * MINUTE + ahead,
        publicKey: request.spki,
        pin,
        actor: order.actor,
      });
    });
  }

  /** Resolves once every certificate that was handed out is marked so. */
  settled(): Promise<void> {
    return this.#changes.settled();
  }

  async #backdating(): Promise<number> {
    return (await this.#options.settings.value('certificate.backdate_minutes')) * MINUTE;
  }

  #lifetimeOf({ name, cluster }: DeclaredHost, service: Service): Promise<number> {
    return lifetimeOf(this.#options.settings, service, { cluster, host: name });
  }

  async #issue(decision: Decision): Promise<IssuedCertificate> {
    const { authority, grant, pin, holder, actor, profile } = decision;
    const { clock, randomness, authorities } = this.#options;
    // SECURITY: a certificate on an authority's own key would let its holder's proofs pass for the authority's.
    const ca = authorities.list().find(({ issuing, root }) => issuing.pin === pin || root.pin === pin);
    if (ca !== undefined) throw keyReused(grant.commonName, `authority ${ca.name}`);
    const now = clock.now();
    const validity = validityOf({
      now,
      lifetime: decision.lifetime,
      skew: await this.#backdating(),
      authority: authority.issuing,
    });
    const template = await presentTemplate(this.#options.settings, authority, profile);
    const prepared = prepareCertificate(template, {
      serialNumber: newSerialNumber(randomness),
      commonName: grant.commonName,
      names: grant.names,
      publicKey: decision.publicKey,
      ...validity,
    });
    const { serialNumber, tbs } = prepared;
    const { notAfter } = validity;
    const detail = `${profile.name} of ${authority.name} for ${holderText(holder, grant.commonName)}, ${pin}`;
    const outcome = await this.#changes.submit({
      kind: 'record',
      intent: {
        serialNumber,
        authority: authority.name,
        profile: profile.name,
        holder,
        pin,
        tbs,
        issuedAt: now,
        notAfter,
      },
      audit: { actor, action: ACTION, subject: serialNumber, outcome: 'intent', detail },
    });
    switch (outcome.kind) {
      case 'key-reused':
        throw keyReused(grant.commonName, holderText(outcome.holder, 'a client'));
      case 'host-revoked':
        throw hostRevoked(outcome.host);
      case 'key-compromised':
        throw keyCompromised(grant.commonName);
      case 'done':
    }
    // Recorded and synced: only now may the signature exist.
    const signature = await authority.sign(prepared);
    this.#mark({ kind: 'issued', serialNumber, signature });
    const der = encodeSigned(tbs, template.issuer.signatureAlgorithm.identifier, signature);
    return { serialNumber, pin, notAfter, pem: encodePem('CERTIFICATE', der) };
  }

  /** Not waited for: the record that is durable already is what revocation goes by. */
  #mark(issued: CertificateChange & { readonly kind: 'issued' }): void {
    for (const change of [...this.#unmarked.splice(0), issued]) {
      this.#changes.submit(change).catch((error: unknown) => {
        // Kept for the next one, by when there may be room on the disk.
        this.#unmarked.push(change);
        const { log } = this.#options;
        log.warn({ serialNumber: change.serialNumber }, `cannot mark as issued: ${describeError(error)}`);
      });
    }
  }

  async #audited<T>(actor: string, subject: string, issue: () => Promise<T>): Promise<T> {
    try {
      return await issue();
    } catch (error) {
      if (error instanceof TrustError && REFUSALS.includes(error.category)) {
        await this.#options.audit.append([
          { actor, action: ACTION, subject, outcome: 'refused', detail: `${error.code}: ${error.message}` },
        ]);
      }
      throw error;
    }
  }
}

function holderText(holder: Holder, otherwise: string): string {
  return holder.kind === 'host' ? `${holder.service} of host ${holder.host}` : otherwise;
}

function unknownHost(name: string): TrustError {
  return new TrustError(
    'issuance.host_unknown',
    'not-found',
    `cannot issue a certificate for host ${JSON.stringify(name.slice(0, 253))}: there is no such host`,
    { hint: 'Add it with `virt-trust host add`.', context: { rule: 'issuance.host_unknown' } },
  );
}

function hostRevoked(host: string): TrustError {
  return new TrustError(
    'issuance.host_revoked',
    'denied',
    `cannot issue a certificate for host ${host}: it was revoked`,
    {
      hint: `Once the host is trustworthy again: virt-trust host provision ${host}`,
      context: { rule: 'issuance.host_revoked' },
    },
  );
}

function keyCompromised(what: string): TrustError {
  return new TrustError(
    'issuance.key_compromised',
    'denied',
    `cannot issue a certificate for ${what}: another one on the same key was revoked for keyCompromise`,
    { hint: 'Make a new key.', context: { rule: 'issuance.key_compromised' } },
  );
}

function keyReused(what: string, owner: string): TrustError {
  return new TrustError(
    'issuance.key_reused',
    'conflict',
    `cannot issue a certificate for ${what}: its key was certified for ${owner}`,
    {
      hint: 'Make a new key: each service of each host has its own.',
      context: { rule: 'issuance.key_reused' },
    },
  );
}
