import type { KeyObject } from 'node:crypto';
import type { Clock } from '@virt-trust/base/clock.ts';
import { type Instant, instant, MINUTE } from '@virt-trust/base/instant.ts';
import { generatePrivateKey } from '@virt-trust/pki/key.ts';
import { encodeName } from '@virt-trust/pki/name.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { createCertificationRequest } from '@virt-trust/pki/request.ts';
import type { Authorities } from '../authorities/authorities.ts';
import type { Issuance, IssuedCertificate } from './issuance.ts';

/** The manager's own client certificate, with which it proves that a host's libvirtd serves what it should. */
export interface OwnClient {
  /** Only ever in this process's memory. */
  readonly key: KeyObject;
  readonly certificate: IssuedCertificate;
  readonly reusableUntil: Instant;
}

const LIFETIME_MINUTES = 15;
/** Used no longer than this, so that minutes of it are left on the furthest clock. */
const REUSE = 10 * MINUTE;

/** Answers the manager's own client certificate; the same for minutes, and valid on every clock that is allowed. */
export class OwnClients {
  readonly #issuance: Issuance;
  readonly #authorities: Authorities;
  readonly #clock: Clock;
  #current: Promise<OwnClient> | undefined;

  constructor(issuance: Issuance, authorities: Authorities, clock: Clock) {
    this.#issuance = issuance;
    this.#authorities = authorities;
    this.#clock = clock;
  }

  /** One that is valid for minutes to come; concurrent callers get the same. */
  async get(): Promise<OwnClient> {
    const held = this.#current;
    const current = await held?.catch(() => undefined);
    if (current !== undefined && this.#clock.now() < current.reusableUntil) {
      return current;
    }
    // Somebody else may have begun while this one waited.
    const next = this.#current === held || this.#current === undefined ? this.#make() : this.#current;
    this.#current = next;
    return next;
  }

  async #make(): Promise<OwnClient> {
    const commonName = 'virt-trust manager';
    const { organization } = this.#authorities.byPurpose('control');
    const key = await generatePrivateKey('ecdsa-p256-sha256');
    const request = createCertificationRequest({
      privateKey: key,
      subject: encodeName({ organization, commonName }),
      sans: [],
    });
    const certificate = await this.#issuance.issueClient({
      csr: encodePem('CERTIFICATE REQUEST', request),
      commonName,
      minutes: LIFETIME_MINUTES,
      anyClock: true,
      actor: 'manager',
    });
    return { key, certificate, reusableUntil: instant(this.#clock.now() + REUSE) };
  }
}
