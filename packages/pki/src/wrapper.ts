import type { KeyObject } from 'node:crypto';
import { type Instant, NEVER } from '@virt-trust/base/instant.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import { VERSION_3 } from './certificate-issue.ts';
import { TAG } from './der/reader.ts';
import { encodeTime } from './der/time.ts';
import { element, sequence } from './der/writer.ts';
import {
  encodeExtensionsField,
  encodeKeyUsage,
  encodeLeafBasicConstraints,
  encodeSigned,
  encodeSubjectKeyIdentifier,
} from './extension-encode.ts';
import { algorithmOfKey, spkiOfKey } from './key.ts';
import { encodeName } from './name.ts';
import { keyIdentifier, parsePublicKeyInfo } from './public-key-info.ts';
import { newSerialNumber, serialNumberOctets } from './serial-number.ts';
import { signBytes } from './signature.ts';

/** 2020-01-01T00:00:00Z: long before any clock that is merely wrong. */
const NOT_BEFORE = 1_577_836_800_000 as Instant;

/**
 * The DER of the self-signed certificate in which TLS carries a pinned key: it says nothing and never expires
 * (RFC 5280 §4.1.2.5: 99991231235959Z); the key alone is what a peer looks at.
 */
export function encodeWrapperCertificate(parts: {
  readonly key: KeyObject;
  readonly subjectCommonName: string;
  readonly randomness: Randomness;
}): Uint8Array {
  const { signature } = algorithmOfKey(parts.key);
  const spki = spkiOfKey(parts.key);
  const name = encodeName({ commonName: parts.subjectCommonName });
  const tbs = sequence(
    VERSION_3,
    element(TAG.integer, serialNumberOctets(newSerialNumber(parts.randomness))),
    signature.identifier,
    name.der,
    sequence(encodeTime(NOT_BEFORE), encodeTime(NEVER)),
    name.der,
    spki,
    encodeExtensionsField(
      encodeLeafBasicConstraints(),
      encodeKeyUsage(['digitalSignature'], 'critical'),
      encodeSubjectKeyIdentifier(keyIdentifier(parsePublicKeyInfo(spki))),
    ),
  );
  return encodeSigned(tbs, signature.identifier, signBytes(tbs, signature, parts.key));
}
