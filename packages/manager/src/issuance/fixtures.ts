import type { KeyObject } from 'node:crypto';
import type { Clock } from '@virt-trust/base/clock.ts';
import { MINUTE } from '@virt-trust/base/instant.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { type GeneralName, parseHostName } from '@virt-trust/pki/general-name.ts';
import { generatePrivateKey } from '@virt-trust/pki/key.ts';
import { encodeName } from '@virt-trust/pki/name.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { createCertificationRequest } from '@virt-trust/pki/request.ts';
import { Authorities } from '../authorities/authorities.ts';
import type { AuthorityConstraints } from '../authorities/internal-creation.ts';
import { Seal } from '../seal/seal.ts';
import { sealKeyOf } from '../seal/seal-key.ts';
import { Settings } from '../settings/settings.ts';
import { SqliteAuditLog } from '../store/audit-log.ts';
import { SqliteAuthorityStore } from '../store/authority-store.ts';
import { SqliteCertificateStore } from '../store/certificate-store.ts';
import type { Database } from '../store/database.ts';
import { SqliteSettingStore } from '../store/setting-store.ts';
import type { CertificateRepository } from './certificate-record.ts';
import type { DeclaredHost } from './declared-names.ts';
import { Issuance } from './issuance.ts';

const NAMES = { dns: ['kvm1.example'], addresses: ['10.0.0.1', 'fd00::1'] };

/** A host with one management interface. */
export const KVM1: DeclaredHost = {
  name: 'kvm1',
  cluster: 'default',
  // The storage name is the host's, and no endpoint has it.
  names: { dns: [...NAMES.dns, 'storage.kvm1.example'], addresses: NAMES.addresses },
  services: {
    libvirt: { commonName: 'kvm1', names: NAMES },
    migration: { commonName: 'kvm1', names: NAMES },
  },
};

const KVM2: DeclaredHost = {
  name: 'kvm2',
  cluster: 'default',
  names: { dns: ['kvm2.example'], addresses: ['10.0.0.2'] },
  services: {
    libvirt: { commonName: 'kvm2', names: { dns: ['kvm2.example'], addresses: ['10.0.0.2'] } },
    migration: { commonName: 'kvm2', names: { dns: ['kvm2.example'], addresses: ['10.0.0.2'] } },
    vnc: { commonName: 'kvm2', names: { dns: ['kvm2.example'], addresses: ['10.0.0.2'] } },
  },
};

export const NO_CONSTRAINTS: AuthorityConstraints = { dns: [], subnets: [] };

/** Issuance on a real database, with hosts kvm1 and kvm2. */
export async function issuanceOn(
  database: Database,
  clock: Clock,
  options: {
    readonly constraints?: AuthorityConstraints;
    readonly wrap?: (certificates: CertificateRepository) => CertificateRepository;
  } = {},
) {
  const seal = new Seal([sealKeyOf(new Uint8Array(32))], systemRandomness);
  const audit = new SqliteAuditLog(database, clock);
  const settings = new Settings(new SqliteSettingStore(database, clock));
  const authorities = await Authorities.open({
    repository: new SqliteAuthorityStore(database, clock, seal),
    clock,
    randomness: systemRandomness,
    log: silentLog,
    organization: 'virt-trust',
    constraints: options.constraints ?? NO_CONSTRAINTS,
    skew: 65 * MINUTE,
  });
  const store = new SqliteCertificateStore(database, clock);
  const certificates = options.wrap?.(store) ?? store;
  const issuance = new Issuance({
    authorities,
    certificates,
    declaredNames: { find: async (name) => [KVM1, KVM2].find((host) => host.name === name) ?? null },
    settings,
    audit,
    log: silentLog,
    clock,
    randomness: systemRandomness,
    managerNames: () => ({ dns: ['manager.example'], addresses: ['10.0.0.254'] }),
  });
  return { authorities, certificates, issuance, audit, settings, seal };
}

export interface RequestParts {
  readonly key?: KeyObject;
  readonly organization?: string;
  readonly commonName?: string;
  /** DNS names and addresses. */
  readonly names?: readonly string[];
  /** In place of `names`, as they are. */
  readonly sans?: readonly GeneralName[];
}

/** The PEM of a request, by default the right one for libvirt of kvm1 with a key of its own. */
export async function requestPem(parts: RequestParts = {}): Promise<string> {
  const names = parts.names ?? [...NAMES.dns, ...NAMES.addresses];
  const der = createCertificationRequest({
    privateKey: parts.key ?? (await generatePrivateKey('ecdsa-p256-sha256')),
    subject: encodeName({
      organization: parts.organization ?? 'virt-trust',
      commonName: parts.commonName ?? 'kvm1',
    }),
    sans: parts.sans ?? names.map(parseHostName),
  });
  return encodePem('CERTIFICATE REQUEST', der);
}

/** A right request for a service of kvm2. */
export function requestOfKvm2(key?: KeyObject): Promise<string> {
  return requestPem({
    commonName: 'kvm2',
    names: ['kvm2.example', '10.0.0.2'],
    ...(key === undefined ? {} : { key }),
  });
}
