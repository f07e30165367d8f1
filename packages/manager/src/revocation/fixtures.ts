import type { TestContext } from 'node:test';
import { silentLog } from '@virt-trust/base/log.ts';
import { type Certificate, parseCertificate } from '@virt-trust/pki/certificate.ts';
import { parseCrl } from '@virt-trust/pki/crl.ts';
import { verifyCrl } from '@virt-trust/pki/crl-verify.ts';
import type { SerialNumber } from '@virt-trust/pki/serial-number.ts';
import { issuanceOn, requestPem } from '../issuance/fixtures.ts';
import { SqliteCrlStore } from '../store/crl-store.ts';
import type { Database } from '../store/database.ts';
import { settableClock, temporaryStore } from '../store/fixtures.ts';
import { SqliteRevocationStore } from '../store/revocation-store.ts';
import type { CrlRepository } from './crl.ts';
import { CrlIssuer } from './crl-issuer.ts';
import { Revoking } from './revoking.ts';

/** Issuance and revocation on a real store, without hosts. */
export async function revocationOn(
  t: TestContext,
  options: {
    readonly wrap?: (crls: CrlRepository) => CrlRepository;
    /** A store that is there already. */
    readonly on?: { readonly database: Database; readonly clock: ReturnType<typeof settableClock> };
  } = {},
) {
  const clock = options.on?.clock ?? settableClock();
  const { database } = options.on ?? temporaryStore(t, clock);
  const issuing = await issuanceOn(database, clock);
  const { authorities, issuance, settings, audit } = issuing;
  const repository = new SqliteRevocationStore(database, clock);
  const crls = options.wrap?.(new SqliteCrlStore(database, clock)) ?? new SqliteCrlStore(database, clock);
  const newIssuer = () =>
    new CrlIssuer({
      authorities,
      revocations: repository,
      crls,
      settings,
      clock,
      log: silentLog,
      canary: async () => null,
      requireSigning: () => {},
      onSigned: () => {},
    });
  const issuer = newIssuer();
  const changed: string[][] = [];
  const revoking = new Revoking({
    repository,
    authorities,
    clock,
    onChange: (names) => changed.push([...names]),
  });
  const issue = async (): Promise<SerialNumber> => {
    const { serialNumber } = await issuance.issueForHost({
      host: 'kvm1',
      service: 'libvirt',
      csr: await requestPem(),
      actor: 'test',
    });
    return serialNumber;
  };
  /** The newest CRL of control, verified: its serial numbers in order. */
  const listed = async (form: 'whole' | 'forHosts' = 'whole') => {
    const crl = issuer.current('control');
    if (crl === null) return null;
    const issuers: Certificate[] = [parseCertificate(authorities.byPurpose('control').issuing.der)];
    const verified = verifyCrl(parseCrl(crl[form]), issuers, { at: clock.now() });
    return [...verified.crl.entries].map(({ serialNumber }) => serialNumber);
  };
  return {
    clock,
    database,
    authorities,
    issuance,
    settings,
    audit,
    repository,
    crls,
    issuer,
    newIssuer,
    revoking,
    changed,
    issue,
    listed,
  };
}

/** An order of a test. */
export function asked(
  more: { readonly reason?: 'keyCompromise' | 'certificateHold' | 'superseded'; origin?: string } = {},
) {
  return {
    reason: more.reason ?? 'keyCompromise',
    comment: '',
    actor: 'token:admin',
    origin: more.origin ?? 'job-1',
  } as const;
}
