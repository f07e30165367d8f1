import { TrustError } from '@virt-trust/base/error.ts';
import { contextTag, type DerReader } from './der/reader.ts';
import { explicit, implicit } from './der/writer.ts';
import { formatIpOctets, ipAddressOctets } from './ip-address.ts';
import { formatName, type Name, readName } from './name.ts';

/** A GeneralName (RFC 5280 §4.2.1.6); forms that virt-trust does not act on keep their DER. */
export type GeneralName =
  | { readonly kind: 'dns'; readonly value: string }
  /** The canonical text of an IPv4 or IPv6 address. */
  | { readonly kind: 'ip'; readonly value: string }
  | { readonly kind: 'uri'; readonly value: string }
  | { readonly kind: 'email'; readonly value: string }
  | { readonly kind: 'directory'; readonly value: Name }
  | { readonly kind: 'other'; readonly tag: number; readonly value: Uint8Array };

/** The name of a host in a certificate: a DNS name or an IP address. */
export type HostName = Extract<GeneralName, { kind: 'dns' | 'ip' }>;

const EMAIL = contextTag(1, 'primitive');
const DNS = contextTag(2, 'primitive');
const DIRECTORY = contextTag(4, 'constructed');
const URI = contextTag(6, 'primitive');
const IP = contextTag(7, 'primitive');
/** otherName, x400Address, ediPartyName, registeredID. */
const UNSUPPORTED = [
  contextTag(0, 'constructed'),
  contextTag(3, 'constructed'),
  contextTag(5, 'constructed'),
  contextTag(8, 'primitive'),
];

/** An IA5String of printable characters: control characters in a name are never meant well. */
function readIa5(reader: DerReader, tag: number): string {
  const content = reader.content(tag);
  for (const octet of content) {
    if (octet < 0x20 || octet > 0x7e) reader.fail('a name with characters that are not printable ASCII');
  }
  return Buffer.from(content).toString('latin1');
}

/** Reads the next GeneralName of subjectAltName; addresses have 4 or 16 octets. */
export function readGeneralName(reader: DerReader): GeneralName {
  const tag = reader.nextTag();
  switch (tag) {
    case DNS: {
      const value = readIa5(reader, tag);
      if (value === '') reader.fail('an empty dNSName');
      return { kind: 'dns', value };
    }
    case IP: {
      const value = formatIpOctets(reader.content(tag));
      if (value === undefined) reader.fail('an iPAddress that is neither 4 nor 16 octets');
      return { kind: 'ip', value };
    }
    case URI:
      return { kind: 'uri', value: readIa5(reader, tag) };
    case EMAIL:
      return { kind: 'email', value: readIa5(reader, tag) };
    case DIRECTORY: {
      const inner = reader.enter(tag);
      const value = readName(inner);
      inner.finish();
      return { kind: 'directory', value };
    }
    default:
      if (!UNSUPPORTED.includes(tag)) reader.fail(`a GeneralName with tag 0x${tag.toString(16)}`);
      return { kind: 'other', tag, value: reader.element() };
  }
}

/** Encodes a GeneralName; throws `name.value_malformed` for text that is not printable ASCII. */
export function encodeGeneralName(name: GeneralName): Uint8Array {
  switch (name.kind) {
    case 'dns':
      return implicit(2, ia5(name.value));
    case 'ip': {
      const octets = ipAddressOctets(name.value);
      if (octets === undefined) throw malformed(name.value, 'not an IP address');
      return implicit(7, octets);
    }
    case 'uri':
      return implicit(6, ia5(name.value));
    case 'email':
      return implicit(1, ia5(name.value));
    case 'directory':
      return explicit(4, name.value.der);
    case 'other':
      return name.value;
  }
}

function ia5(text: string): Uint8Array {
  if (!/^[\u0021-\u007e]+$/.test(text)) throw malformed(text, 'not printable ASCII');
  return Buffer.from(text, 'latin1');
}

function malformed(text: string, reason: string): TrustError {
  return new TrustError(
    'name.value_malformed',
    'invalid',
    `cannot use name ${JSON.stringify(text.slice(0, 60))}: ${reason}`,
  );
}

/** A host's name as people write it: an IP address, else a DNS name; throws `name.value_malformed`. */
export function parseHostName(text: string): HostName {
  const octets = ipAddressOctets(text);
  const address = octets === undefined ? undefined : formatIpOctets(octets);
  if (address !== undefined) return { kind: 'ip', value: address };
  if (!isDnsName(text)) throw malformed(text, 'neither an IP address nor a DNS name');
  return { kind: 'dns', value: text.toLowerCase() };
}

const LABEL = /^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/;

/** Whether the text is a host name in preferred syntax (RFC 1034 §3.5), no wildcard, underscores tolerated. */
export function isDnsName(text: string): boolean {
  if (text.length === 0 || text.length > 253) return false;
  const labels = text.split('.');
  const last = labels[labels.length - 1] as string;
  // An all-numeric top label is an address gone wrong.
  return labels.every((label) => LABEL.test(label)) && !/^\d+$/.test(last);
}

/** The text of a name for people: `DNS:a.example`, `IP:192.0.2.1`. */
export function formatGeneralName(name: GeneralName): string {
  switch (name.kind) {
    case 'dns':
      return `DNS:${name.value}`;
    case 'ip':
      return `IP:${name.value}`;
    case 'uri':
      return `URI:${name.value}`;
    case 'email':
      return `email:${name.value}`;
    case 'directory':
      return `DirName:${formatName(name.value)}`;
    case 'other':
      return `other:${Buffer.from(name.value).toString('hex')}`;
  }
}
