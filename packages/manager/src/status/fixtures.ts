import type { TestContext } from 'node:test';
import type { Clock } from '@virt-trust/base/clock.ts';
import { DAY, type Instant, instant } from '@virt-trust/base/instant.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { type Certificate, parseCertificates } from '@virt-trust/pki/certificate.ts';
import { EncodedCrlEntries } from '@virt-trust/pki/crl-issue.ts';
import { encodeCertId, issuerHashes } from '@virt-trust/pki/ocsp-cert-id.ts';
import { encodeOcspRequest } from '@virt-trust/pki/ocsp-request.ts';
import type { SerialNumber } from '@virt-trust/pki/serial-number.ts';
import { issuanceOn, requestOfKvm2, requestPem } from '../issuance/fixtures.ts';
import { temporaryStore } from '../store/fixtures.ts';
import { CrlPublication } from './crl-publication.ts';
import { OcspResponder } from './ocsp-responder.ts';
import { ResponderSigners } from './responder-signers.ts';
import type { CertificateStatus, PublishedCrl, StatusSource } from './status-source.ts';

/** Revocations as a store would know them, told at once. */
class Revocations implements StatusSource {
  readonly statuses = new Map<string, CertificateStatus>();
  readonly crls = new Map<string, PublishedCrl>();
  readonly #listeners: ((authorities: readonly string[]) => void)[] = [];
  held = false;
  /** Called before each look. */
  onLook: () => void = () => undefined;

  statusOf(authority: string, serialNumber: SerialNumber): CertificateStatus {
    this.onLook();
    return this.statuses.get(`${authority} ${serialNumber}`) ?? { kind: 'unknown' };
  }

  isHeld(): boolean {
    return this.held;
  }

  crlOf(authority: string): PublishedCrl | null {
    this.onLook();
    return this.crls.get(authority) ?? null;
  }

  onChange(listener: (authorities: readonly string[]) => void): void {
    this.#listeners.push(listener);
  }

  changed(authority: string): void {
    for (const listener of this.#listeners) listener([authority]);
  }

  revoke(authority: string, serialNumber: SerialNumber, at: Instant): void {
    this.statuses.set(`${authority} ${serialNumber}`, { kind: 'revoked', at, reason: 'keyCompromise' });
    this.changed(authority);
  }
}

/** A responder on real authorities, with two certificates of the control authority. */
export async function temporaryResponder(t: TestContext, clock: Clock, mostAnswers = 1000) {
  const { database } = temporaryStore(t, clock);
  const issuing = await issuanceOn(database, clock);
  const { authorities, issuance } = issuing;
  const control = authorities.byPurpose('control');
  const source = new Revocations();
  const issue = async (host: string, csr: string): Promise<Certificate> => {
    const { pem } = await issuance.issueForHost({ host, service: 'libvirt', csr, actor: 'test' });
    const [certificate] = parseCertificates(pem);
    if (certificate === undefined) throw new Error('no certificate');
    source.statuses.set(`control ${certificate.serialNumber}`, { kind: 'good' });
    return certificate;
  };
  const kvm1 = await issue('kvm1', await requestPem());
  const kvm2 = await issue('kvm2', await requestOfKvm2());
  const signers = new ResponderSigners({ issuance, clock, log: silentLog });
  const responder = new OcspResponder({ authorities, source, signers, clock, log: silentLog, mostAnswers });
  const crls = new CrlPublication(authorities, source);
  const publish = async (number: bigint, ...revoked: Certificate[]): Promise<void> => {
    const now = clock.now();
    const times = { thisUpdate: now, nextUpdate: instant(now + 7 * DAY) };
    const entries = EncodedCrlEntries.of(
      revoked.map(({ serialNumber }) => ({ serialNumber, revocationDate: now, reason: 'keyCompromise' })),
    );
    const der = await control.signCrl({ number, ...times, entries });
    source.crls.set('control', { der, ...times });
    source.changed('control');
  };
  return { ...issuing, control, source, kvm1, kvm2, responder, crls, publish };
}

/** A request for certificates of one issuer. */
export function ocspRequest(
  issuer: Certificate,
  serials: readonly SerialNumber[],
  options: { readonly hash?: 'sha1' | 'sha256'; readonly nonce?: Uint8Array } = {},
): Buffer {
  const hashes = issuerHashes(issuer, options.hash ?? 'sha1');
  const ids = serials.map((serial) => encodeCertId(hashes, serial));
  return Buffer.from(encodeOcspRequest(ids, options.nonce));
}
