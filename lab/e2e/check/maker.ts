import {
  constants,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
} from 'node:crypto';
import { OID } from '@virt-trust/pki/der/oid.ts';
import { contextTag, TAG } from '@virt-trust/pki/der/reader.ts';
import {
  bitString,
  element,
  explicit,
  implicit,
  NULL,
  namedBits,
  octetString,
  oid,
  sequence,
  smallInteger,
  TRUE,
  utf8String,
} from '@virt-trust/pki/der/writer.ts';
import { KEY_USAGES, type KeyUsage } from '@virt-trust/pki/extensions.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';

/** A key that certificates are made with; `other` is a second one of the usual kind. */
export type KeyKind =
  | 'ec'
  | 'other'
  | 'p384'
  | 'p521'
  | 'secp256k1'
  | 'rsa'
  | 'rsa1024'
  | 'rsa4096'
  | 'rsa768'
  | 'ed25519'
  | 'ed448'
  | 'p192'
  | 'p224'
  | 'pss';

type Digest = 'md5' | 'sha1' | 'sha256' | 'sha384' | 'sha512';

const keys = new Map<KeyKind, KeyObject>();

/** The one key of a kind. */
export function keyOf(kind: KeyKind): KeyObject {
  const known = keys.get(kind) ?? generate(kind);
  keys.set(kind, known);
  return known;
}

function generate(kind: KeyKind): KeyObject {
  const curve = {
    ec: 'P-256',
    other: 'P-256',
    p384: 'P-384',
    p521: 'P-521',
    secp256k1: 'secp256k1',
    p192: 'prime192v1',
    p224: 'secp224r1',
  } as const;
  switch (kind) {
    case 'rsa':
    case 'rsa1024':
    case 'rsa4096':
    case 'rsa768':
      return generateKeyPairSync('rsa', { modulusLength: Number(kind.slice(3) || 2048) }).privateKey;
    case 'pss':
      return generateKeyPairSync('rsa-pss', { modulusLength: 2048 }).privateKey;
    case 'ed25519':
      return generateKeyPairSync('ed25519').privateKey;
    case 'ed448':
      return generateKeyPairSync('ed448').privateKey;
    default:
      return generateKeyPairSync('ec', { namedCurve: curve[kind] }).privateKey;
  }
}

/** A certificate as it was made. */
export interface Made {
  readonly der: Uint8Array;
  readonly pem: string;
  readonly subject: Uint8Array;
  readonly serial: Uint8Array;
  readonly key: KeyObject;
}

/** What a certificate is to be; an honest server's of a CA's, valid now, where nothing else is said. */
export interface Wanted {
  /** `CN=a` and the like, in the order of the certificate, or a whole Name. */
  readonly subject?: string | Uint8Array;
  readonly issuer?: Pick<Made, 'subject' | 'key'>;
  readonly key?: KeyKind;
  readonly digest?: Digest;
  readonly version?: 1 | 2 | 3;
  readonly serial?: Uint8Array;
  /** Days from now. */
  readonly from?: number;
  readonly to?: number;
  readonly extensions?: readonly Uint8Array[];
  /** The two encoded times, in place of `from` and `to`. */
  readonly rawTimes?: readonly [Uint8Array, Uint8Array];
  /** The digest that the unsigned field names. */
  readonly outerAlgorithm?: Digest;
  /** Signs in RSASSA-PSS with a salt of so many octets, though the signer's key is plain RSA. */
  readonly pssSalt?: number;
  /** Another SubjectPublicKeyInfo than that of `key`. */
  readonly publicKey?: Uint8Array;
  /** Changes the signature. */
  readonly forged?: boolean;
}

const ATTRIBUTES: Readonly<Record<string, string>> = {
  C: OID.countryName,
  O: OID.organizationName,
  CN: OID.commonName,
  E: OID.emailAddress,
};
const DAY = 86_400_000;

/** A Name of attributes in the order given. */
export function nameOf(text: string): Uint8Array {
  if (text === '') return sequence();
  return sequence(
    ...text.split(',').map((pair) => {
      const [type = '', value = ''] = pair.split('=');
      return element(TAG.set, sequence(oid(ATTRIBUTES[type] ?? type), utf8String(value)));
    }),
  );
}

/** Makes a certificate, however wrong. */
export function make(wanted: Wanted): Made {
  const key = keyOf(wanted.key ?? 'ec');
  const signer = wanted.issuer?.key ?? key;
  const subject =
    typeof wanted.subject === 'object' ? wanted.subject : nameOf(wanted.subject ?? 'O=lab,CN=host');
  const { pssSalt } = wanted;
  const pss = pssSalt === undefined ? undefined : pssAlgorithm(pssSalt);
  const algorithm = pss ?? signatureAlgorithm(signer, wanted.digest ?? 'sha256');
  const serial = wanted.serial ?? Uint8Array.of(0x40, ...randomBytes(8));
  const version = wanted.version ?? 3;
  const tbs = sequence(
    ...(version === 1 ? [] : [explicit(0, smallInteger(version - 1))]),
    element(TAG.integer, serial),
    algorithm.identifier,
    wanted.issuer?.subject ?? subject,
    sequence(...(wanted.rawTimes ?? [time(wanted.from ?? -10), time(wanted.to ?? 300)])),
    subject,
    wanted.publicKey ?? publicKeyOf(key),
    ...(wanted.extensions === undefined || wanted.extensions.length === 0
      ? []
      : [element(contextTag(3, 'constructed'), sequence(...wanted.extensions))]),
  );
  const padding = { key: signer, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: pssSalt };
  const signature = sign(algorithm.digest, tbs, pss === undefined ? signer : padding);
  if (wanted.forged === true) signature[signature.length - 1] = (signature.at(-1) ?? 0) ^ 1;
  const outer = pss ?? signatureAlgorithm(signer, wanted.outerAlgorithm ?? wanted.digest ?? 'sha256');
  const der = sequence(tbs, outer.identifier, bitString(signature));
  return { der, pem: encodePem('CERTIFICATE', der), subject, serial, key };
}

function publicKeyOf(key: KeyObject): Uint8Array {
  return createPublicKey(key).export({ type: 'spki', format: 'der' });
}

/** What to sign with, as node:crypto and as the AlgorithmIdentifier say it. */
function signatureAlgorithm(
  key: KeyObject,
  digest: Digest,
): { readonly identifier: Uint8Array; readonly digest: string | null } {
  const rsa = { md5: 4, sha1: 5, sha256: 11, sha384: 12, sha512: 13 }[digest];
  const ec = { md5: '', sha1: '1', sha256: '3.2', sha384: '3.3', sha512: '3.4' }[digest];
  switch (key.asymmetricKeyType) {
    case 'rsa':
      return { identifier: sequence(oid(`1.2.840.113549.1.1.${rsa}`), NULL), digest };
    case 'rsa-pss':
      return pssAlgorithm(222);
    case 'ec':
      return { identifier: sequence(oid(`1.2.840.10045.4.${ec}`)), digest };
    case 'ed448':
      return { identifier: sequence(oid('1.3.101.113')), digest: null };
    default:
      return { identifier: sequence(oid('1.3.101.112')), digest: null };
  }
}

/** RSASSA-PSS with SHA-256 (RFC 4055 §3.1). */
function pssAlgorithm(saltLength: number): { readonly identifier: Uint8Array; readonly digest: string } {
  const hash = sequence(oid('2.16.840.1.101.3.4.2.1'), NULL);
  const mask = sequence(oid('1.2.840.113549.1.1.8'), hash);
  const parameters = sequence(explicit(0, hash), explicit(1, mask), explicit(2, smallInteger(saltLength)));
  return { identifier: sequence(oid('1.2.840.113549.1.1.10'), parameters), digest: 'sha256' };
}

/** A time some days from now, in the form that its year demands. */
export function time(days: number): Uint8Array {
  const text = new Date(Date.now() + days * DAY).toISOString().replace(/[-:T]|\.\d+/g, '');
  const year = Number(text.slice(0, 4));
  return year < 2050
    ? element(TAG.utcTime, Buffer.from(text.slice(2)))
    : element(TAG.generalizedTime, Buffer.from(text));
}

/** One Extension. */
export function extension(type: string, value: Uint8Array, critical = false): Uint8Array {
  return sequence(oid(type), ...(critical ? [TRUE] : []), octetString(value));
}

export function basicConstraints(ca: boolean, pathLength?: number, critical = true): Uint8Array {
  const value = sequence(
    ...(ca ? [TRUE] : []),
    ...(pathLength === undefined ? [] : [smallInteger(pathLength)]),
  );
  return extension(OID.basicConstraints, value, critical);
}

export function keyUsage(usages: readonly KeyUsage[], critical: boolean): Uint8Array {
  return extension(OID.keyUsage, namedBits(usages.map((usage) => KEY_USAGES.indexOf(usage))), critical);
}

export function purposes(oids: readonly string[], critical: boolean): Uint8Array {
  return extension(OID.extKeyUsage, sequence(...oids.map((each) => oid(each))), critical);
}

/** Alternative names as tag and content: 1 e-mail, 2 DNS, 6 URI, 7 IP. */
export function names(
  ...list: readonly (readonly [tag: number, content: string | Uint8Array])[]
): Uint8Array {
  const encoded = list.map(([tag, content]) =>
    implicit(tag, typeof content === 'string' ? Buffer.from(content, 'latin1') : content),
  );
  return extension(OID.subjectAltName, sequence(...encoded));
}

/** nameConstraints of encoded subtrees. */
export function nameConstraints(
  permitted: readonly Uint8Array[],
  excluded: readonly Uint8Array[],
  critical = true,
): Uint8Array {
  const list = (number: number, subtrees: readonly Uint8Array[]) =>
    subtrees.length === 0 ? [] : [explicit(number, ...subtrees.map((subtree) => sequence(subtree)))];
  return extension(OID.nameConstraints, sequence(...list(0, permitted), ...list(1, excluded)), critical);
}

export function subjectKey(identifier: Uint8Array): Uint8Array {
  return extension(OID.subjectKeyIdentifier, octetString(identifier));
}

export function authorityKey(identifier: Uint8Array): Uint8Array {
  return extension(OID.authorityKeyIdentifier, sequence(implicit(0, identifier)));
}

/** Makes a CRL over serial numbers. */
export function makeCrl(wanted: {
  readonly issuer: Pick<Made, 'subject' | 'key'>;
  readonly serials?: readonly Uint8Array[];
  readonly from?: number;
  /** Null for none. */
  readonly to?: number | null;
  readonly forged?: boolean;
  readonly version?: 1 | 2;
}): string {
  const algorithm = signatureAlgorithm(wanted.issuer.key, 'sha256');
  const entries = (wanted.serials ?? []).map((serial) => sequence(element(TAG.integer, serial), time(-2)));
  const tbs = sequence(
    ...(wanted.version === 1 ? [] : [smallInteger(1)]),
    algorithm.identifier,
    wanted.issuer.subject,
    time(wanted.from ?? -1),
    ...(wanted.to === null ? [] : [time(wanted.to ?? 20)]),
    ...(entries.length === 0 ? [] : [sequence(...entries)]),
    ...(wanted.version === 1 ? [] : [explicit(0, sequence(extension('2.5.29.20', smallInteger(7))))]),
  );
  const signature = sign(algorithm.digest, tbs, wanted.issuer.key);
  if (wanted.forged === true) signature[signature.length - 1] = (signature.at(-1) ?? 0) ^ 1;
  return encodePem('X509 CRL', sequence(tbs, algorithm.identifier, bitString(signature)));
}

/** The key in PEM, PKCS#8 where nothing else is said. */
export function keyPem(
  key: KeyObject,
  type: 'pkcs8' | 'pkcs1' | 'sec1' = 'pkcs8',
  password?: string,
): string {
  return key.export({
    type,
    format: 'pem',
    ...(password === undefined ? {} : { cipher: 'aes-256-cbc', passphrase: password }),
  }) as string;
}
