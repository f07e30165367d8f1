import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import { HOUR, type Instant, instant, SECOND } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { Certificate } from '@virt-trust/pki/certificate.ts';
import { type CertId, type IssuerHashes, issuerHashes, namesIssuer } from '@virt-trust/pki/ocsp-cert-id.ts';
import { encodeOcspError, type OcspAnswer, signOcspResponse } from '@virt-trust/pki/ocsp-issue.ts';
import { encodeOcspRequest, type OcspRequest, parseOcspRequest } from '@virt-trust/pki/ocsp-request.ts';
import type { Authorities } from '../authorities/authorities.ts';
import type { Authority } from '../authorities/authority.ts';
import { AnswerCache, type SignedAnswer } from './answer-cache.ts';
import type { ResponderSigners } from './responder-signers.ts';
import type { CertificateStatus, StatusSource } from './status-source.ts';

export interface OcspResponderParts {
  readonly authorities: Pick<Authorities, 'list'>;
  readonly source: StatusSource;
  readonly signers: Pick<ResponderSigners, 'signerOf'>;
  readonly clock: Clock;
  readonly log: Log;
  /** How many signed answers are kept; each takes about a kilobyte. */
  readonly mostAnswers?: number;
}

/** What to send: an answer that may be kept as long as it holds, one for this request alone, or an error. */
export type OcspReply =
  | { readonly kind: 'shared'; readonly answer: SignedAnswer }
  | { readonly kind: 'single'; readonly der: Buffer }
  | { readonly kind: 'error'; readonly der: Buffer };

/** How long an answer holds. */
const LIFETIME = HOUR;
const REFRESH_AFTER = LIFETIME / 2;
const MOST_ANSWERS = 20_000;

const error = (status: Parameters<typeof encodeOcspError>[0]): OcspReply => ({
  kind: 'error',
  der: Buffer.from(encodeOcspError(status)),
});
const MALFORMED = error('malformedRequest');
const INTERNAL = error('internalError');
const TRY_LATER = error('tryLater');

/**
 * Answers OCSP requests (RFC 6960) for the authorities of this manager. What many ask is signed once and kept for half of
 * the time that it holds; what has a nonce, asks for several certificates or for an unknown one is signed each time.
 */
export class OcspResponder {
  readonly #parts: OcspResponderParts;
  readonly #answers: AnswerCache;
  readonly #statuses = new Map<string, { readonly epoch: number; readonly status: CertificateStatus }>();
  readonly #most: number;
  /** By request: who asks the same meanwhile gets the same. */
  readonly #signing = new Map<string, Promise<OcspReply>>();
  readonly #hashes = new WeakMap<Certificate, readonly IssuerHashes[]>();

  constructor(parts: OcspResponderParts) {
    this.#parts = parts;
    this.#most = parts.mostAnswers ?? MOST_ANSWERS;
    this.#answers = new AnswerCache(this.#most);
    parts.source.onChange((authorities) => {
      for (const authority of authorities) this.#answers.invalidate(authority);
    });
  }

  /** The reply to a DER request; never throws. */
  respond(request: Buffer): OcspReply | Promise<OcspReply> {
    // SECURITY: what was revoked since the backup would else be good.
    if (this.#parts.source.isHeld()) return TRY_LATER;
    const key = request.toString('latin1');
    const answer = this.#answers.find(key, this.#parts.clock.now());
    if (answer !== undefined) return { kind: 'shared', answer };
    return this.#answer(request);
  }

  async #answer(der: Buffer): Promise<OcspReply> {
    let request: OcspRequest;
    try {
      request = parseOcspRequest(der);
    } catch (cause) {
      if (isTrustError(cause)) return MALFORMED;
      throw cause;
    }
    // RFC 6960 §4.4: what cannot be heeded and must be, is no request to us.
    if (request.unknownCritical.length > 0) return MALFORMED;
    try {
      return await this.#sign(request);
    } catch (cause) {
      this.#parts.log.error({}, `cannot answer an OCSP request: ${describeError(cause)}`);
      return INTERNAL;
    }
  }

  #sign(request: OcspRequest): Promise<OcspReply> {
    const [certId] = request.certIds;
    const authority = certId && this.#authorityOf(certId);
    if (certId === undefined || authority === undefined || request.nonce !== undefined) {
      return this.#signSingle(request, authority);
    }
    const known = this.#known(authority, certId).kind !== 'unknown';
    // SECURITY: what nobody was issued is never kept, or made-up serial numbers would push out the real ones.
    if (request.certIds.length > 1 || !known) return this.#signSingle(request, authority);
    return this.#signShared(request, certId, authority);
  }

  /** Kept under the shortest request for it, since others could be varied without end. */
  async #signShared(request: OcspRequest, certId: CertId, authority: Authority): Promise<OcspReply> {
    const key = Buffer.from(encodeOcspRequest([certId.der])).toString('latin1');
    const kept = this.#answers.find(key, this.#parts.clock.now());
    if (kept !== undefined) return { kind: 'shared', answer: kept };
    const epoch = this.#answers.epochOf(authority.name);
    const under = `${epoch} ${authority.name} ${key}`;
    let signing = this.#signing.get(under);
    if (signing === undefined) {
      signing = this.#signAndKeep(request, authority, epoch, key).finally(() => this.#signing.delete(under));
      this.#signing.set(under, signing);
    }
    return signing;
  }

  async #signAndKeep(
    request: OcspRequest,
    authority: Authority,
    epoch: number,
    key: string,
  ): Promise<OcspReply> {
    const { der, producedAt, nextUpdate } = await this.#signNow(request, authority);
    const refreshAt = instant(producedAt + REFRESH_AFTER);
    const answer: SignedAnswer = { der, producedAt, nextUpdate, refreshAt, epoch, authority: authority.name };
    // SECURITY: a revocation while it was being signed makes it one that nobody else gets.
    this.#answers.keep(key, answer);
    return epoch === this.#answers.epochOf(authority.name)
      ? { kind: 'shared', answer }
      : { kind: 'single', der: (await this.#signNow(request, authority)).der };
  }

  async #signSingle(request: OcspRequest, authority: Authority | undefined): Promise<OcspReply> {
    const signing = authority ?? this.#firstKnown(request) ?? this.#parts.authorities.list()[0];
    if (signing === undefined) return error('unauthorized');
    return { kind: 'single', der: (await this.#signNow(request, signing)).der };
  }

  #firstKnown({ certIds }: OcspRequest): Authority | undefined {
    for (const certId of certIds) {
      const authority = this.#authorityOf(certId);
      if (authority !== undefined) return authority;
    }
    return undefined;
  }

  async #signNow(
    request: OcspRequest,
    authority: Authority,
  ): Promise<{ der: Buffer; producedAt: Instant; nextUpdate: Instant }> {
    const { clock, signers } = this.#parts;
    const signer = await signers.signerOf(authority);
    const producedAt = instant(Math.floor(clock.now() / SECOND) * SECOND);
    const nextUpdate = instant(Math.min(producedAt + LIFETIME, signer.certificate.notAfter));
    const answers = request.certIds.map(
      (certId): OcspAnswer => ({
        certId: certId.der,
        status: this.#statusOf(certId, authority),
        thisUpdate: producedAt,
        nextUpdate,
      }),
    );
    const { nonce } = request;
    // In this thread: it takes no longer than to hand it to another one.
    const der = signOcspResponse(signer, { producedAt, answers, nonce });
    return { der: Buffer.from(der.buffer, der.byteOffset, der.length), producedAt, nextUpdate };
  }

  /** RFC 6960 §2.2: unknown what this authority never issued, and what another one did, for whom it cannot speak. */
  #statusOf(certId: CertId, authority: Authority): OcspAnswer['status'] {
    return this.#names(certId, authority) ? this.#known(authority, certId) : { kind: 'unknown' };
  }

  /** As the source has it, which is not asked again before something changes; made-up serial numbers are not kept. */
  #known({ name }: Authority, { serialNumber }: CertId): CertificateStatus {
    const epoch = this.#answers.epochOf(name);
    const key = `${name} ${serialNumber}`;
    const kept = this.#statuses.get(key);
    if (kept?.epoch === epoch) return kept.status;
    this.#statuses.delete(key);
    const status = this.#parts.source.statusOf(name, serialNumber);
    if (status.kind === 'unknown') return status;
    this.#statuses.set(key, { epoch, status });
    const oldest = this.#statuses.keys().next().value;
    if (this.#statuses.size > this.#most && oldest !== undefined) this.#statuses.delete(oldest);
    return status;
  }

  #authorityOf(certId: CertId): Authority | undefined {
    return this.#parts.authorities.list().find((authority) => this.#names(certId, authority));
  }

  #names(certId: CertId, { issuing }: Authority): boolean {
    let hashes = this.#hashes.get(issuing);
    if (hashes === undefined) {
      hashes = [issuerHashes(issuing, 'sha1'), issuerHashes(issuing, 'sha256')];
      this.#hashes.set(issuing, hashes);
    }
    return hashes.some((of) => namesIssuer(certId, of));
  }
}
