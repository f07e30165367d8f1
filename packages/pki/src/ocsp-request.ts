import { contextTag, DerReader, TAG } from './der/reader.ts';
import { explicit, sequence } from './der/writer.ts';
import { readGeneralName } from './general-name.ts';
import { type CertId, readCertId } from './ocsp-cert-id.ts';
import {
  encodeNonce,
  NO_OCSP_EXTENSIONS,
  type OcspExtensions,
  readOcspExtensions,
} from './ocsp-extensions.ts';

/** A request for the status of certificates (RFC 6960 §4.1); a signature of the requestor's is not looked at. */
export interface OcspRequest {
  /** At least one. */
  readonly certIds: readonly CertId[];
  /** To be repeated in the answer (RFC 8954 §2.1). */
  readonly nonce: Uint8Array | undefined;
  /** Critical extensions that are not processed. */
  readonly unknownCritical: readonly string[];
}

const MAX_BYTES = 16 * 1024;
const MAX_CERT_IDS = 32;

/** Parses a DER OCSPRequest; throws `der.malformed` or `der.too_large`. */
export function parseOcspRequest(der: Uint8Array): OcspRequest {
  const reader = DerReader.over(der, { what: 'OCSP request', maxBytes: MAX_BYTES });
  const outer = reader.sequence();
  reader.finish();
  const tbs = outer.sequence();
  const signature = contextTag(0, 'constructed');
  if (!outer.done) outer.element(signature);
  outer.finish();
  const versionTag = contextTag(0, 'constructed');
  if (tbs.nextIs(versionTag)) {
    const version = tbs.enter(versionTag);
    if (version.smallInteger() !== 0) version.fail('its version is not 1');
    version.finish();
  }
  const nameTag = contextTag(1, 'constructed');
  if (tbs.nextIs(nameTag)) readGeneralName(tbs.enter(nameTag));
  const list = tbs.sequence();
  const certIds: CertId[] = [];
  const unknownCritical: string[] = [];
  while (!list.done) {
    if (certIds.length >= MAX_CERT_IDS) list.fail(`more than ${MAX_CERT_IDS} certificates`);
    const request = list.sequence();
    certIds.push(readCertId(request));
    unknownCritical.push(...readOptional(request, 0).unknownCritical);
    request.finish();
  }
  if (certIds.length === 0) list.fail('it asks for nothing');
  const { nonce, unknownCritical: ofRequest } = readOptional(tbs, 2);
  tbs.finish();
  return { certIds, nonce, unknownCritical: [...unknownCritical, ...ofRequest] };
}

function readOptional(reader: DerReader, number: number): OcspExtensions {
  const tag = contextTag(number, 'constructed');
  if (!reader.nextIs(tag)) return NO_OCSP_EXTENSIONS;
  const wrapper = reader.enter(tag);
  const extensions = readOcspExtensions(wrapper.enter(TAG.sequence));
  wrapper.finish();
  return extensions;
}

/** Encodes a request for certificates, given by encoded CertIDs (RFC 6960 §4.1.1). */
export function encodeOcspRequest(certIds: readonly Uint8Array[], nonce?: Uint8Array): Uint8Array {
  const list = sequence(...certIds.map((certId) => sequence(certId)));
  const extensions = nonce === undefined ? [] : [explicit(2, sequence(encodeNonce(nonce)))];
  return sequence(sequence(list, ...extensions));
}
