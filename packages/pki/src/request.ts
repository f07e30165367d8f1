import type { KeyObject } from 'node:crypto';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { OID } from './der/oid.ts';
import { contextTag, DerReader, TAG } from './der/reader.ts';
import { element, oid, sequence, setOfOne, smallInteger } from './der/writer.ts';
import { encodeSigned, encodeSubjectAltName } from './extension-encode.ts';
import { readExtensions } from './extensions.ts';
import type { GeneralName } from './general-name.ts';
import { algorithmOfKey, spkiOfKey } from './key.ts';
import { type Name, readName } from './name.ts';
import { type PublicKeyInfo, parsePublicKeyInfo, pinOf } from './public-key-info.ts';
import { signBytes, verifySignatureOnPool } from './signature.ts';

/** A certification request (RFC 2986), well-formed; its signature is checked by `verifyProofOfPossession`. */
export interface CertificationRequest {
  readonly der: Uint8Array;
  /** DER of the CertificationRequestInfo, which the signature covers. */
  readonly info: Uint8Array;
  readonly subject: Name;
  readonly publicKey: PublicKeyInfo;
  readonly spki: Uint8Array;
  readonly pin: SpkiPin;
  /** The alternative names that it asks for, none where it has no such extension. */
  readonly names: readonly GeneralName[];
  /** Object identifiers of all extensions that it asks for. */
  readonly extensions: readonly string[];
  readonly signatureAlgorithm: Uint8Array;
  readonly signature: Uint8Array;
}

/** Evidence that whoever made the request holds the private key. */
export interface ProofOfPossession {
  readonly request: CertificationRequest;
  readonly pin: SpkiPin;
  readonly signatureAlgorithm: string;
}

const MAX_BYTES = 64 * 1024;
const MAX_ATTRIBUTES = 16;
const ATTRIBUTES = contextTag(0, 'constructed');

/** Makes a signed request for the key (RFC 2986 §4); returns DER. */
export function createCertificationRequest(parts: {
  readonly privateKey: KeyObject;
  readonly subject: Name;
  readonly sans: readonly GeneralName[];
}): Uint8Array {
  const { signature } = algorithmOfKey(parts.privateKey);
  const attributes =
    parts.sans.length === 0
      ? []
      : [sequence(oid(OID.extensionRequest), setOfOne(sequence(encodeSubjectAltName(parts.sans))))];
  const info = sequence(
    smallInteger(0),
    parts.subject.der,
    spkiOfKey(parts.privateKey),
    element(ATTRIBUTES, ...attributes),
  );
  return encodeSigned(info, signature.identifier, signBytes(info, signature, parts.privateKey));
}

type Requested = Pick<CertificationRequest, 'names' | 'extensions'>;

const NOTHING: Requested = { names: [], extensions: [] };

function readAttributes(attributes: DerReader): Requested {
  let requested: Requested | undefined;
  for (let count = 0; !attributes.done; count++) {
    if (count >= MAX_ATTRIBUTES) attributes.fail(`more than ${MAX_ATTRIBUTES} attributes`);
    const attribute = attributes.sequence();
    const type = attribute.oid();
    const values = attribute.enter(TAG.set);
    attribute.finish();
    if (type !== OID.extensionRequest) continue;
    // RFC 2985 §5.4.2: a single value, and one such attribute.
    if (requested !== undefined) values.fail('two extension requests');
    const extensions = readExtensions(values.sequence());
    requested = { names: extensions.subjectAltName?.names ?? [], extensions: extensions.oids };
    values.finish();
  }
  return requested ?? NOTHING;
}

/** Parses a DER request, its signature unverified; throws `der.malformed` or `der.too_large`. */
export function parseCertificationRequest(der: Uint8Array): CertificationRequest {
  const reader = DerReader.over(der, { what: 'certification request', maxBytes: MAX_BYTES });
  const outer = reader.sequence();
  reader.finish();
  const info = outer.element(TAG.sequence);
  const fields = DerReader.over(info, { what: 'certification request' }).sequence();
  if (fields.smallInteger() !== 0) fields.fail('its version is not 1');
  const subject = readName(fields);
  const publicKey = parsePublicKeyInfo(fields.element(TAG.sequence));
  // The field is mandatory, but widespread tools leave it out when it would be empty.
  const requested = fields.done ? NOTHING : readAttributes(fields.enter(ATTRIBUTES));
  fields.finish();
  const signatureAlgorithm = outer.element(TAG.sequence);
  const signature = outer.bitStringOctets();
  outer.finish();
  const pin = pinOf(publicKey);
  return {
    der,
    info,
    subject,
    publicKey,
    spki: publicKey.der,
    pin,
    ...requested,
    signatureAlgorithm,
    signature,
  };
}

/** Verifies that the request was signed with its own key, on the thread pool; throws `signature.*`, `key.refused` (RFC 2986 §4.2). */
export async function verifyProofOfPossession(request: CertificationRequest): Promise<ProofOfPossession> {
  const { algorithm } = await verifySignatureOnPool(
    request.info,
    request,
    request.publicKey,
    'certification request',
  );
  return { request, pin: request.pin, signatureAlgorithm: algorithm.name };
}
