import { TrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import { type CrlReason, crlReasonOfCode } from './crl-reason.ts';
import { OID } from './der/oid.ts';
import { contextTag, DerReader, TAG } from './der/reader.ts';
import { readGeneralizedTime } from './der/time.ts';
import { type Name, readName } from './name.ts';
import { type CertId, readCertId } from './ocsp-cert-id.ts';
import { NO_OCSP_EXTENSIONS, type OcspExtensions, readOcspExtensions } from './ocsp-extensions.ts';

/** The statuses of a responder that did not answer, by their numbers (RFC 6960 §4.2.1). */
export const OCSP_RESPONSE_STATUS = {
  successful: 0,
  malformedRequest: 1,
  internalError: 2,
  tryLater: 3,
  sigRequired: 5,
  unauthorized: 6,
} as const;

/** How a responder answered. */
export type OcspResponseStatus = keyof typeof OCSP_RESPONSE_STATUS;

/** The status of one certificate (RFC 6960 §4.2.1). */
export type OcspCertStatus =
  | { readonly kind: 'good' }
  /** `unspecified` where no reason is given. */
  | { readonly kind: 'revoked'; readonly at: Instant; readonly reason: CrlReason }
  | { readonly kind: 'unknown' };

/** What is said of one certificate. */
export interface SingleResponse {
  readonly certId: CertId;
  readonly status: OcspCertStatus;
  readonly thisUpdate: Instant;
  readonly nextUpdate: Instant | undefined;
  readonly extensions: OcspExtensions;
}

/** By which name or key a responder goes: SHA-1 of the key's bits. */
export type ResponderId =
  | { readonly kind: 'name'; readonly name: Name }
  | { readonly kind: 'key'; readonly hash: Uint8Array };

/** A BasicOCSPResponse, well-formed but not verified; `verifyOcspResponse` verifies it. */
export interface OcspResponse {
  /** The DER of the ResponseData, which the signature covers. */
  readonly tbs: Uint8Array;
  readonly responderId: ResponderId;
  readonly producedAt: Instant;
  readonly responses: readonly SingleResponse[];
  readonly extensions: OcspExtensions;
  /** DER of the AlgorithmIdentifier. */
  readonly signatureAlgorithm: Uint8Array;
  readonly signature: Uint8Array;
  /** DER of the certificates that came along. */
  readonly certificates: readonly Uint8Array[];
}

const MAX_BYTES = 256 * 1024;
const MAX_RESPONSES = 256;
const MAX_CERTIFICATES = 16;

const constructed = (number: number) => contextTag(number, 'constructed');
const primitive = (number: number) => contextTag(number, 'primitive');

function readRevoked(reader: DerReader): OcspCertStatus {
  const info = reader.enter(constructed(1));
  const at = readGeneralizedTime(info);
  if (info.done) return { kind: 'revoked', at, reason: 'unspecified' };
  const wrapper = info.enter(constructed(0));
  const content = wrapper.content(TAG.enumerated);
  wrapper.finish();
  info.finish();
  const reason = content.length === 1 ? crlReasonOfCode(content[0] as number) : undefined;
  return { kind: 'revoked', at, reason: reason ?? info.fail('an unknown revocationReason') };
}

function readCertStatus(reader: DerReader): OcspCertStatus {
  if (reader.nextIs(constructed(1))) return readRevoked(reader);
  const kind = reader.nextIs(primitive(0)) ? 'good' : 'unknown';
  const content = reader.content(kind === 'good' ? primitive(0) : primitive(2));
  if (content.length !== 0) reader.fail('a malformed certStatus');
  return { kind };
}

function readOptionalExtensions(reader: DerReader, number: number): OcspExtensions {
  if (!reader.nextIs(constructed(number))) return NO_OCSP_EXTENSIONS;
  const wrapper = reader.enter(constructed(number));
  const extensions = readOcspExtensions(wrapper.sequence());
  wrapper.finish();
  return extensions;
}

function readSingle(reader: DerReader): SingleResponse {
  const single = reader.sequence();
  const certId = readCertId(single);
  const status = readCertStatus(single);
  const thisUpdate = readGeneralizedTime(single);
  let nextUpdate: Instant | undefined;
  if (single.nextIs(constructed(0))) {
    const wrapper = single.enter(constructed(0));
    nextUpdate = readGeneralizedTime(wrapper);
    wrapper.finish();
  }
  const extensions = readOptionalExtensions(single, 1);
  single.finish();
  return { certId, status, thisUpdate, nextUpdate, extensions };
}

function readResponderId(reader: DerReader): ResponderId {
  const byName = reader.nextIs(constructed(1));
  const inner = reader.enter(byName ? constructed(1) : constructed(2));
  const result: ResponderId = byName
    ? { kind: 'name', name: readName(inner) }
    : { kind: 'key', hash: inner.content(TAG.octetString) };
  inner.finish();
  return result;
}

function readResponseData(der: Uint8Array) {
  const reader = DerReader.over(der, { what: 'OCSP response', maxBytes: MAX_BYTES });
  const data = reader.sequence();
  reader.finish();
  if (data.nextIs(constructed(0))) {
    const version = data.enter(constructed(0));
    if (version.smallInteger() !== 0) version.fail('its version is not 1');
    version.finish();
  }
  const responderId = readResponderId(data);
  const producedAt = readGeneralizedTime(data);
  const list = data.sequence();
  const responses: SingleResponse[] = [];
  while (!list.done) {
    if (responses.length >= MAX_RESPONSES) list.fail(`more than ${MAX_RESPONSES} answers`);
    responses.push(readSingle(list));
  }
  const extensions = readOptionalExtensions(data, 1);
  data.finish();
  return { responderId, producedAt, responses, extensions };
}

function parseBasicResponse(reader: DerReader): OcspResponse {
  const basic = reader.sequence();
  reader.finish();
  const tbs = basic.element(TAG.sequence);
  const data = readResponseData(tbs);
  const signatureAlgorithm = basic.element(TAG.sequence);
  const signature = basic.bitStringOctets();
  const certificates: Uint8Array[] = [];
  if (!basic.done) {
    const wrapper = basic.enter(constructed(0));
    const list = wrapper.sequence();
    wrapper.finish();
    while (!list.done) {
      if (certificates.length >= MAX_CERTIFICATES) list.fail(`more than ${MAX_CERTIFICATES} certificates`);
      certificates.push(list.element(TAG.sequence));
    }
  }
  basic.finish();
  return { tbs, ...data, signatureAlgorithm, signature, certificates };
}

function notAnswered(status: number): TrustError {
  const name = Object.entries(OCSP_RESPONSE_STATUS).find(([, code]) => code === status)?.[0];
  return new TrustError(
    'ocsp.not_answered',
    'unavailable',
    `cannot tell from OCSP: the responder answered ${name ?? status}`,
    { context: { responseStatus: name ?? status } },
  );
}

/**
 * Parses a DER OCSPResponse, its signature unverified; throws `der.malformed`, `ocsp.not_answered` with the responder's
 * status where it gave no answer, `ocsp.type_unknown`.
 * @public
 */
export function parseOcspResponse(der: Uint8Array): OcspResponse {
  const reader = DerReader.over(der, { what: 'OCSP response', maxBytes: MAX_BYTES });
  const outer = reader.sequence();
  reader.finish();
  const status = outer.content(TAG.enumerated);
  if (status.length !== 1) outer.fail('a malformed responseStatus');
  if (status[0] !== 0) throw notAnswered(status[0] as number);
  const wrapper = outer.enter(constructed(0));
  outer.finish();
  const bytes = wrapper.sequence();
  wrapper.finish();
  const type = bytes.oid();
  if (type !== OID.ocspBasic) {
    throw new TrustError('ocsp.type_unknown', 'invalid', `cannot read OCSP response: of type ${type}`);
  }
  const inner = bytes.enter(TAG.octetString);
  bytes.finish();
  return parseBasicResponse(inner);
}
