import { TrustError } from '@virt-trust/base/error.ts';
import { encodePrivateKeyPem, generatePrivateKey } from '@virt-trust/pki/key.ts';
import { encodeName } from '@virt-trust/pki/name.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { createCertificationRequest } from '@virt-trust/pki/request.ts';
import type { SerialNumber } from '@virt-trust/pki/serial-number.ts';
import type { Authorities } from '../authorities/authorities.ts';
import type { OwnClient } from '../hosts/ports.ts';
import type { Issuance } from '../issuance/issuance.ts';
import { CANARY, type RevocationRepository } from './revocation.ts';

/** Enough for every host that is up to be tried. */
const LIFETIME_MINUTES = 15;
/** The subject of the manager's own clients: hosts that go by lists of names let it in, but for the CRL. */
const COMMON_NAME = 'virt-trust manager';

/**
 * Certificates of the manager's own that are revoked as soon as they are made, one for a CRL: a host that refuses the
 * canary, and accepts the manager's own client, has loaded that very CRL. Keys are in memory only, and of the newest.
 */
export class Canaries {
  readonly #authorities: Authorities;
  readonly #issuance: Issuance;
  readonly #repository: RevocationRepository;
  #held: { readonly serialNumber: SerialNumber; readonly client: OwnClient } | null = null;

  constructor(authorities: Authorities, issuance: Issuance, repository: RevocationRepository) {
    this.#authorities = authorities;
    this.#issuance = issuance;
    this.#repository = repository;
  }

  /** Makes one and revokes it; the next CRL has it. */
  async make(): Promise<SerialNumber> {
    const { organization } = this.#authorities.byPurpose('control');
    const key = await generatePrivateKey('ecdsa-p256-sha256');
    const request = createCertificationRequest({
      privateKey: key,
      subject: encodeName({ organization, commonName: COMMON_NAME }),
      sans: [],
    });
    const { serialNumber, pem } = await this.#issuance.issueClient({
      csr: encodePem('CERTIFICATE REQUEST', request),
      commonName: COMMON_NAME,
      minutes: LIFETIME_MINUTES,
      anyClock: true,
      actor: 'manager',
    });
    const [outcome] = await this.#repository.revoke({
      serials: [serialNumber],
      reason: 'superseded',
      comment: 'made to be refused: it proves that hosts have loaded the CRL',
      actor: 'manager',
      origin: CANARY,
    });
    if (outcome?.kind !== 'revoked')
      throw new TrustError(
        'crl.canary',
        'internal',
        `cannot revoke canary ${serialNumber}: ${outcome?.kind}`,
      );
    this.#held = { serialNumber, client: { certificatePem: pem, privateKeyPem: encodePrivateKeyPem(key) } };
    return serialNumber;
  }

  /** The client that must be refused where the CRL with this canary is loaded; null where its key is gone. */
  clientOf(serialNumber: SerialNumber | null): OwnClient | null {
    return this.#held !== null && this.#held.serialNumber === serialNumber ? this.#held.client : null;
  }
}
