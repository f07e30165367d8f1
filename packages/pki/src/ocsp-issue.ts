import { hash, type KeyObject } from 'node:crypto';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { SignatureAlgorithm } from './algorithms.ts';
import type { Certificate } from './certificate.ts';
import { crlReasonCode } from './crl-reason.ts';
import { OID } from './der/oid.ts';
import { contextTag, TAG } from './der/reader.ts';
import { encodeGeneralizedTime } from './der/time.ts';
import { bitString, element, explicit, octetString, oid, sequence } from './der/writer.ts';
import { algorithmOfKey, keyMatchesCertificate } from './key.ts';
import { encodeNonce } from './ocsp-extensions.ts';
import { OCSP_RESPONSE_STATUS, type OcspCertStatus, type OcspResponseStatus } from './ocsp-response.ts';
import { signBytes } from './signature.ts';

/** Who signs answers: an authority itself, or the holder of a certificate of its for this (RFC 6960 §4.2.2.2). */
export interface OcspSigner {
  readonly certificate: Certificate;
  readonly key: KeyObject;
  readonly signatureAlgorithm: SignatureAlgorithm;
  /** DER of the ResponderID. */
  readonly responderId: Uint8Array;
  /** DER of the `[0]` with the signer's certificate. */
  readonly certificates: Uint8Array;
}

/** Joins certificate and key; throws `ocsp.key_mismatch` or `key.refused`. */
export function prepareOcspSigner(certificate: Certificate, key: KeyObject): OcspSigner {
  if (!keyMatchesCertificate(key, certificate)) {
    throw new TrustError(
      'ocsp.key_mismatch',
      'invalid',
      'cannot sign OCSP answers: the private key is not that of the responder’s certificate',
    );
  }
  const { signature } = algorithmOfKey(key);
  // RFC 6960 §4.2.1 has SHA-1 here and nothing else; it only tells which certificate to try.
  const keyHash = hash('sha1', certificate.publicKey.keyBits, 'buffer');
  return {
    certificate,
    key,
    signatureAlgorithm: signature,
    responderId: explicit(2, octetString(keyHash)),
    certificates: explicit(0, sequence(certificate.der)),
  };
}

/** What is to be said of one certificate. */
export interface OcspAnswer {
  /** DER of the CertID, as the request had it. */
  readonly certId: Uint8Array;
  readonly status: OcspCertStatus;
  readonly thisUpdate: Instant;
  readonly nextUpdate: Instant;
}

/** All that an answer says. */
export interface OcspAnswers {
  readonly producedAt: Instant;
  readonly answers: readonly OcspAnswer[];
  /** Of the request, to be repeated. */
  readonly nonce?: Uint8Array | undefined;
}

const GOOD = element(contextTag(0, 'primitive'));
const UNKNOWN = element(contextTag(2, 'primitive'));

function encodeCertStatus(status: OcspCertStatus): Uint8Array {
  switch (status.kind) {
    case 'good':
      return GOOD;
    case 'unknown':
      return UNKNOWN;
    case 'revoked': {
      const { at, reason } = status;
      const code = element(TAG.enumerated, Uint8Array.of(crlReasonCode(reason)));
      // RFC 5280 §5.3.1: unspecified is said by leaving the reason out.
      return explicit(1, encodeGeneralizedTime(at), ...(reason === 'unspecified' ? [] : [explicit(0, code)]));
    }
  }
}

function encodeSingle({ certId, status, thisUpdate, nextUpdate }: OcspAnswer): Uint8Array {
  return sequence(
    certId,
    encodeCertStatus(status),
    encodeGeneralizedTime(thisUpdate),
    explicit(0, encodeGeneralizedTime(nextUpdate)),
  );
}

function encodeResponseData(signer: OcspSigner, { producedAt, answers, nonce }: OcspAnswers): Uint8Array {
  return sequence(
    signer.responderId,
    encodeGeneralizedTime(producedAt),
    sequence(...answers.map(encodeSingle)),
    ...(nonce === undefined ? [] : [explicit(1, sequence(encodeNonce(nonce)))]),
  );
}

const SUCCESSFUL = element(TAG.enumerated, Uint8Array.of(OCSP_RESPONSE_STATUS.successful));
const BASIC = oid(OID.ocspBasic);

function encodeResponse(signer: OcspSigner, tbs: Uint8Array, signature: Uint8Array): Uint8Array {
  const { identifier } = signer.signatureAlgorithm;
  const basic = sequence(tbs, identifier, bitString(signature), signer.certificates);
  return sequence(SUCCESSFUL, explicit(0, sequence(BASIC, octetString(basic))));
}

/** Signs an answer (RFC 6960 §4.2.1); returns the DER of the OCSPResponse. */
export function signOcspResponse(signer: OcspSigner, answers: OcspAnswers): Uint8Array {
  const tbs = encodeResponseData(signer, answers);
  return encodeResponse(signer, tbs, signBytes(tbs, signer.signatureAlgorithm, signer.key));
}

/** A response without an answer, unsigned (RFC 6960 §4.2.1). */
export function encodeOcspError(status: Exclude<OcspResponseStatus, 'successful'>): Uint8Array {
  return sequence(element(TAG.enumerated, Uint8Array.of(OCSP_RESPONSE_STATUS[status])));
}
