import { MINUTE } from '@virt-trust/base/instant.ts';
import type { RenewalPlan } from '@virt-trust/contract/model/certificate.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import { Authorities } from './authorities/authorities.ts';
import type { AuthorityConstraints } from './authorities/internal-creation.ts';
import type { Core } from './core.ts';
import { authorityHandlers } from './http/handlers/authorities.ts';
import { certificateHandlers } from './http/handlers/certificates.ts';
import type { Handlers } from './http/handlers.ts';
import { CertificateAdoption } from './issuance/certificate-adoption.ts';
import type { CertificateRepository } from './issuance/certificate-record.ts';
import type { DeclaredHost, DeclaredNames } from './issuance/declared-names.ts';
import { Issuance } from './issuance/issuance.ts';
import { OwnClients } from './issuance/own-client.ts';
import { SqliteAuthorityStore } from './store/authority-store.ts';
import { SqliteCertificateStore } from './store/certificate-store.ts';

/** What issuance needs from the rest of the manager. */
export interface IssuanceParts {
  readonly declaredNames: DeclaredNames;
  readonly managerNames: (host: DeclaredHost) => SubjectAltNames;
  /** For authorities that are made at the first start. */
  readonly constraints: AuthorityConstraints;
  /** When a certificate that is served is renewed. */
  readonly renewalOf?: (serialNumber: string) => Promise<RenewalPlan | null>;
}

/** Authorities and issuance, ready to serve, for the domains that need certificates. */
export interface IssuanceDomain {
  readonly authorities: Authorities;
  readonly issuance: Issuance;
  readonly ownClients: OwnClients;
  readonly adoption: CertificateAdoption;
  readonly certificates: CertificateRepository;
  readonly handlers: Pick<
    Handlers,
    'listCertificates' | 'getCertificate' | 'issueCertificate' | 'listAuthorities' | 'getAuthority'
  >;
  close(): Promise<void>;
}

/** Opens the authorities, making them at the first start, and puts issuance on them. */
export async function composeIssuance(core: Core, parts: IssuanceParts): Promise<IssuanceDomain> {
  const { clock, randomness, settings, audit, database, seal, log } = core;
  const authorities = await Authorities.open({
    repository: new SqliteAuthorityStore(database, clock, seal),
    clock,
    randomness,
    log,
    organization: await settings.value('organization'),
    constraints: parts.constraints,
    skew: (await settings.value('certificate.backdate_minutes')) * MINUTE,
  });
  const certificates = new SqliteCertificateStore(database, clock);
  const { declaredNames, managerNames } = parts;
  const issuance = new Issuance({
    authorities,
    certificates,
    declaredNames,
    settings,
    audit,
    log,
    clock,
    randomness,
    managerNames,
  });
  return {
    authorities,
    issuance,
    ownClients: new OwnClients(issuance, authorities, clock),
    adoption: new CertificateAdoption({ authorities, certificates, audit, settings, clock }),
    certificates,
    handlers: {
      ...certificateHandlers({
        certificates,
        authorities,
        issuance,
        renewalOf: parts.renewalOf ?? (async () => null),
      }),
      ...authorityHandlers(authorities),
    },
    close: () => issuance.settled(),
  };
}
