import { TrustError } from '@virt-trust/base/error.ts';
import { OID } from './der/oid.ts';
import { DerReader, TAG } from './der/reader.ts';
import { oid, sequence, setOfOne, utf8String } from './der/writer.ts';

/** One attribute of a relative distinguished name; `value` is text, or `#` and the DER in hexadecimal. */
interface NameAttribute {
  readonly type: string;
  readonly value: string;
  /** Whether `value` is text. */
  readonly textual: boolean;
}

/** A distinguished name (RFC 5280 §4.1.2.4). */
export interface Name {
  readonly der: Uint8Array;
  readonly rdns: readonly (readonly NameAttribute[])[];
}

/** The attributes from which a name is made, in the order in which they are encoded. */
export interface NameFields {
  readonly country?: string;
  readonly organization?: string;
  readonly organizationalUnit?: string;
  readonly commonName?: string;
}

/** Short names of RFC 4514 §3, and those that OpenSSL and GnuTLS add. */
const SHORT: Readonly<Record<string, string>> = {
  [OID.commonName]: 'CN',
  [OID.localityName]: 'L',
  [OID.stateOrProvinceName]: 'ST',
  [OID.organizationName]: 'O',
  [OID.organizationalUnitName]: 'OU',
  [OID.countryName]: 'C',
  [OID.streetAddress]: 'STREET',
  [OID.domainComponent]: 'DC',
  [OID.userId]: 'UID',
  [OID.serialNumberAttribute]: 'serialNumber',
  [OID.emailAddress]: 'EMAIL',
};

const MAX_ATTRIBUTES = 64;
const utf8 = new TextDecoder('utf-8', { fatal: true });
const utf16 = new TextDecoder('utf-16be', { fatal: true });

function isAscii(octets: Uint8Array): boolean {
  for (let index = 0; index < octets.length; index++) if ((octets[index] as number) > 0x7f) return false;
  return true;
}

function latin1(octets: Uint8Array): string {
  return Buffer.from(octets.buffer, octets.byteOffset, octets.length).toString('latin1');
}

function decodeText(tag: number, octets: Uint8Array): string | undefined {
  try {
    switch (tag) {
      case TAG.utf8String:
        return isAscii(octets) ? latin1(octets) : utf8.decode(octets);
      case TAG.printableString:
      case TAG.ia5String:
        return isAscii(octets) ? latin1(octets) : undefined;
      case TAG.teletexString:
        return latin1(octets);
      case TAG.bmpString:
        return utf16.decode(octets);
      default:
        return undefined;
    }
  } catch {
    return undefined;
  }
}

function readAttribute(set: DerReader): NameAttribute {
  const pair = set.sequence();
  const type = pair.oid();
  const tag = pair.nextTag();
  const { der, content } = pair.elementAndContent(tag);
  pair.finish();
  const text = decodeText(tag, content);
  return text === undefined
    ? { type, value: `#${Buffer.from(der).toString('hex')}`, textual: false }
    : { type, value: text, textual: true };
}

/** Reads the next Name; the same bytes as `known` are not parsed again. */
export function readName(reader: DerReader, known?: Name): Name {
  const der = reader.element(TAG.sequence);
  return known !== undefined && Buffer.compare(der, known.der) === 0 ? known : parseName(der);
}

/** Parses the DER of a Name; throws `der.malformed`. */
export function parseName(der: Uint8Array): Name {
  const reader = DerReader.over(der, { what: 'distinguished name', maxBytes: 64 * 1024 });
  const sequenceOfRdns = reader.sequence();
  reader.finish();
  const rdns: NameAttribute[][] = [];
  let count = 0;
  while (!sequenceOfRdns.done) {
    const set = sequenceOfRdns.enter(TAG.set);
    const attributes: NameAttribute[] = [];
    do {
      if (++count > MAX_ATTRIBUTES) set.fail(`more than ${MAX_ATTRIBUTES} attributes`);
      attributes.push(readAttribute(set));
    } while (!set.done);
    rdns.push(attributes);
  }
  return { der, rdns };
}

/** One RDN with one attribute, as UTF8String, or PrintableString for the country (RFC 5280 §4.1.2.4). */
export function encodeRdn(type: string, value: string): Uint8Array {
  const text = utf8String(value);
  if (type === OID.countryName) text[0] = TAG.printableString;
  return setOfOne(sequence(oid(type), text));
}

/** Makes a Name; throws `name.value_malformed` for an empty value or one with control characters. */
export function encodeName(fields: NameFields): Name {
  const parts: Uint8Array[] = [];
  const add = (type: string, value: string | undefined) => {
    if (value === undefined) return;
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
    if (value === '' || /[\u0000-\u001f\u007f]/.test(value) || !value.isWellFormed()) {
      throw new TrustError(
        'name.value_malformed',
        'invalid',
        `cannot use ${JSON.stringify(value.slice(0, 60))} in a distinguished name: empty or control characters`,
      );
    }
    parts.push(encodeRdn(type, value));
  };
  add(OID.countryName, fields.country);
  add(OID.organizationName, fields.organization);
  add(OID.organizationalUnitName, fields.organizationalUnit);
  add(OID.commonName, fields.commonName);
  return parseName(sequence(...parts));
}

/** The first textual value of an attribute type, such as `OID.organizationName`. */
export function nameAttribute(name: Name, type: string): string | undefined {
  for (const rdn of name.rdns) {
    for (const attribute of rdn) if (attribute.type === type && attribute.textual) return attribute.value;
  }
  return undefined;
}

function escapeValue({ value, textual }: NameAttribute): string {
  if (!textual) return value;
  return (
    value
      .replace(/[\\",+;<>]/g, '\\$&')
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is escaped
      .replace(/[\u0000-\u001f\u007f]/g, (character) => {
        return `\\${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
      })
      .replace(/^[ #]/, '\\$&')
      .replace(/(?<!\\) $/, '\\ ')
  );
}

/** The text of a name, last RDN first (RFC 4514 §2). */
export function formatName(name: Name): string {
  const rdns = name.rdns.map((rdn) =>
    rdn.map((attribute) => `${SHORT[attribute.type] ?? attribute.type}=${escapeValue(attribute)}`).join('+'),
  );
  return rdns.reverse().join(',');
}

/** RFC 5280 §7.1 compares without regard to case and to runs of white space. */
function rdnKey(rdn: readonly NameAttribute[]): string {
  const keys = rdn.map(({ type, value, textual }) => {
    const folded = textual ? value.normalize('NFKC').toLowerCase().trim().replace(/\s+/g, ' ') : value;
    return JSON.stringify([type, textual, folded]);
  });
  return keys.sort().join();
}

/** Whether two names are the same (RFC 5280 §7.1). */
export function namesEqual(left: Name, right: Name): boolean {
  if (Buffer.compare(left.der, right.der) === 0) return true;
  return left.rdns.length === right.rdns.length && nameIsWithin(left, right);
}

/** Whether `name` begins with all RDNs of `base`, as a directoryName subtree demands (RFC 5280 §4.2.1.10). */
export function nameIsWithin(name: Name, base: Name): boolean {
  if (base.rdns.length > name.rdns.length) return false;
  return base.rdns.every((rdn, index) => rdnKey(rdn) === rdnKey(name.rdns[index] ?? []));
}
