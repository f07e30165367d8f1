import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError } from '@virt-trust/base/error.ts';
import { DAY, type Instant, instant, MINUTE } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import { parseCertificates } from '@virt-trust/pki/certificate.ts';
import { generatePrivateKey } from '@virt-trust/pki/key.ts';
import { encodeName } from '@virt-trust/pki/name.ts';
import { type OcspSigner, prepareOcspSigner } from '@virt-trust/pki/ocsp-issue.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { createCertificationRequest } from '@virt-trust/pki/request.ts';
import type { Authority } from '../authorities/authority.ts';
import type { Issuance } from '../issuance/issuance.ts';

export interface ResponderSignersParts {
  readonly issuance: Pick<Issuance, 'issueClient'>;
  readonly clock: Clock;
  readonly log: Log;
}

interface Held {
  readonly signer: OcspSigner;
  readonly renewAt: Instant;
}

const LIFETIME = 7 * DAY;
const RENEW_AFTER = LIFETIME / 2;
/** After a failure, so that a store without room is not asked at every request. */
const RETRY_AFTER = MINUTE;

/**
 * Who signs OCSP answers for each authority: a key that is only ever in this process's memory, certified by that
 * authority for days (RFC 6960 §4.2.2.2). Made when it is first asked for, renewed after half of its life.
 */
export class ResponderSigners {
  readonly #parts: ResponderSignersParts;
  readonly #held = new Map<string, Held>();
  readonly #making = new Map<string, Promise<Held>>();
  readonly #failed = new Map<string, { readonly error: unknown; readonly at: Instant }>();

  constructor(parts: ResponderSignersParts) {
    this.#parts = parts;
  }

  /** One that is valid for days; throws where none could be certified. */
  signerOf(authority: Authority): OcspSigner | Promise<OcspSigner> {
    const held = this.#held.get(authority.name);
    if (held !== undefined && this.#parts.clock.now() < held.renewAt) return held.signer;
    return this.#renew(authority, held);
  }

  async #renew(authority: Authority, held: Held | undefined): Promise<OcspSigner> {
    const { name } = authority;
    const failed = this.#failed.get(name);
    const since = this.#parts.clock.now() - (failed?.at ?? 0);
    // SECURITY: whoever asks would else have a key made and a refusal audited by each request.
    if (held === undefined && failed !== undefined && since >= 0 && since < RETRY_AFTER) throw failed.error;
    let making = this.#making.get(name);
    if (making === undefined) {
      making = this.#make(authority).finally(() => this.#making.delete(name));
      this.#making.set(name, making);
    }
    try {
      const made = await making;
      this.#held.set(name, made);
      this.#failed.delete(name);
      return made.signer;
    } catch (error) {
      const { clock, log } = this.#parts;
      const now = clock.now();
      if (held === undefined || now >= held.signer.certificate.notAfter) {
        this.#held.delete(name);
        this.#failed.set(name, { error, at: now });
        throw error;
      }
      log.warn({ authority: name }, `cannot renew the OCSP responder’s certificate: ${describeError(error)}`);
      this.#held.set(name, { signer: held.signer, renewAt: instant(now + RETRY_AFTER) });
      return held.signer;
    }
  }

  async #make(authority: Authority): Promise<Held> {
    const { issuance, clock } = this.#parts;
    const commonName = `virt-trust ${authority.purpose} ocsp responder`;
    const key = await generatePrivateKey('ecdsa-p256-sha256');
    const { organization } = authority;
    const subject = encodeName({ organization, commonName });
    const request = createCertificationRequest({ privateKey: key, subject, sans: [] });
    const { pem } = await issuance.issueClient({
      csr: encodePem('CERTIFICATE REQUEST', request),
      commonName,
      minutes: LIFETIME / MINUTE,
      responderOf: authority.purpose,
      actor: 'manager',
    });
    const [certificate] = parseCertificates(pem);
    if (certificate === undefined) throw new RangeError('no certificate in what was issued');
    // Sooner where the authority itself ends.
    const life = Math.max(0, certificate.notAfter - clock.now());
    const renewAt = instant(clock.now() + Math.floor(Math.min(RENEW_AFTER, life / 2)));
    return { signer: prepareOcspSigner(certificate, key), renewAt };
  }
}
