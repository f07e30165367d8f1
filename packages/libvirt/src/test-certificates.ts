import type { KeyObject } from 'node:crypto';
import { parseInstant } from '@virt-trust/base/instant.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { type Certificate, parseCertificate } from '@virt-trust/pki/certificate.ts';
import { OID } from '@virt-trust/pki/der/oid.ts';
import { encodeTime } from '@virt-trust/pki/der/time.ts';
import { element, explicit, oid, sequence, smallInteger, TRUE } from '@virt-trust/pki/der/writer.ts';
import {
  encodeExtension,
  encodeExtensionsField,
  encodeKeyUsage,
  encodeSigned,
  encodeSubjectAltName,
} from '@virt-trust/pki/extension-encode.ts';
import type { KeyUsage } from '@virt-trust/pki/extensions.ts';
import type { GeneralName } from '@virt-trust/pki/general-name.ts';
import { algorithmOfKey, encodePrivateKeyPem, generatePrivateKey, spkiOfKey } from '@virt-trust/pki/key.ts';
import { encodeRdn } from '@virt-trust/pki/name.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { signBytes } from '@virt-trust/pki/signature.ts';

/** A certificate with its key; for tests alone. */
export interface TestIdentity {
  readonly certificate: Certificate;
  readonly pem: string;
  readonly keyPem: string;
  readonly key: KeyObject;
}

/** What of a test certificate is not ordinary; without any of it, a leaf with an EC key and no extensions. */
export interface TestCertificateOptions {
  /** `CN=a` and the like; attributes C, O and CN, in the order of the certificate. */
  readonly subject: string;
  /** Self-signed without. */
  readonly issuer?: TestIdentity;
  readonly ca?: boolean;
  readonly pathLength?: number;
  readonly names?: readonly GeneralName[];
  readonly keyUsage?: { readonly usages: readonly KeyUsage[]; readonly critical: boolean };
  readonly purposes?: { readonly oids: readonly string[]; readonly critical: boolean };
  /** Object identifiers of extensions that nobody knows. */
  readonly unknownCritical?: readonly string[];
  readonly notBefore?: string;
  readonly notAfter?: string;
  readonly key?: 'ec' | 'rsa';
}

const ATTRIBUTES: Readonly<Record<string, string>> = {
  C: OID.countryName,
  O: OID.organizationName,
  CN: OID.commonName,
};

/** Makes a certificate, also one that we would never issue; valid from 2026 to 2036 unless told otherwise. */
export async function makeTestCertificate(options: TestCertificateOptions): Promise<TestIdentity> {
  const key = await generatePrivateKey(options.key === 'rsa' ? 'rsa-2048-sha256' : 'ecdsa-p256-sha256');
  const signer = options.issuer?.key ?? key;
  const { signature } = algorithmOfKey(signer);
  const subject = encodeSubject(options.subject);
  const serial = systemRandomness.bytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  const extensions = encodeExtensions(options);
  const tbs = sequence(
    explicit(0, smallInteger(2)),
    element(0x02, serial),
    signature.identifier,
    options.issuer?.certificate.subject.der ?? subject,
    sequence(
      encodeTime(parseInstant(options.notBefore ?? '2026-01-01T00:00:00Z')),
      encodeTime(parseInstant(options.notAfter ?? '2036-01-01T00:00:00Z')),
    ),
    subject,
    spkiOfKey(key),
    ...(extensions.length === 0 ? [] : [encodeExtensionsField(...extensions)]),
  );
  const der = encodeSigned(tbs, signature.identifier, signBytes(tbs, signature, signer));
  return {
    certificate: parseCertificate(der),
    pem: encodePem('CERTIFICATE', der),
    keyPem: encodePrivateKeyPem(key),
    key,
  };
}

function encodeSubject(text: string): Uint8Array {
  const rdns = text.split(',').map((pair) => {
    const [type = '', value = ''] = pair.split('=');
    return encodeRdn(ATTRIBUTES[type] ?? type, value);
  });
  return sequence(...rdns);
}

function encodeExtensions(options: TestCertificateOptions): Uint8Array[] {
  const { ca, pathLength, names, keyUsage, purposes, unknownCritical = [] } = options;
  const extensions: Uint8Array[] = [];
  if (ca !== undefined) {
    const limit = pathLength === undefined ? [] : [smallInteger(pathLength)];
    extensions.push(
      encodeExtension(OID.basicConstraints, 'critical', sequence(...(ca ? [TRUE, ...limit] : []))),
    );
  }
  if (keyUsage !== undefined) {
    extensions.push(encodeKeyUsage(keyUsage.usages, keyUsage.critical ? 'critical' : 'not-critical'));
  }
  if (purposes !== undefined) {
    const list = sequence(...purposes.oids.map(oid));
    extensions.push(encodeExtension(OID.extKeyUsage, purposes.critical ? 'critical' : 'not-critical', list));
  }
  if (names !== undefined) extensions.push(encodeSubjectAltName(names));
  for (const unknown of unknownCritical) extensions.push(encodeExtension(unknown, 'critical', sequence()));
  return extensions;
}
