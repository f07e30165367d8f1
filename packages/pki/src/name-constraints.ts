import { TrustError } from '@virt-trust/base/error.ts';
import { OID } from './der/oid.ts';
import { contextTag, type DerReader } from './der/reader.ts';
import { element, explicit, implicit, sequence } from './der/writer.ts';
import { type GeneralName, isDnsName } from './general-name.ts';
import { formatIpOctets, ipAddressOctets } from './ip-address.ts';
import { formatName, type Name, nameIsWithin, readName } from './name.ts';

/** One subtree of nameConstraints (RFC 5280 §4.2.1.10). */
export type NameSubtree =
  | { readonly kind: 'dns'; readonly value: string }
  | { readonly kind: 'ip'; readonly address: Uint8Array; readonly mask: Uint8Array }
  | { readonly kind: 'email'; readonly value: string }
  | { readonly kind: 'directory'; readonly value: Name }
  /** A form that is not processed, by its tag: certificates that use the form are refused. */
  | { readonly kind: 'unsupported'; readonly tag: number };

/** What names the certificates below may have. */
export interface NameConstraints {
  readonly permitted: readonly NameSubtree[];
  readonly excluded: readonly NameSubtree[];
}

const URI_TAG = contextTag(6, 'primitive');
const TAGS = { email: 0x81, dns: 0x82, directory: 0xa4, ip: 0x87 } as const;

function isPrefixMask(mask: Uint8Array): boolean {
  let ended = false;
  for (const octet of mask) {
    for (let bit = 0x80; bit > 0; bit >>= 1) {
      if ((octet & bit) === 0) ended = true;
      else if (ended) return false;
    }
  }
  return true;
}

function ascii(reader: DerReader, tag: number): string {
  const content = reader.content(tag);
  if (content.some((octet) => octet < 0x20 || octet > 0x7e))
    reader.fail('a name constraint that is not ASCII');
  return Buffer.from(content).toString('latin1');
}

function readBase(reader: DerReader): NameSubtree {
  const tag = reader.nextTag();
  switch (tag) {
    case TAGS.dns: {
      const value = ascii(reader, tag);
      const host = value.startsWith('.') ? value.slice(1) : value;
      if (value !== '' && !isDnsName(host)) reader.fail('a malformed dNSName constraint');
      return { kind: 'dns', value: value.toLowerCase() };
    }
    case TAGS.ip: {
      const content = reader.content(tag);
      const half = content.length / 2;
      const mask = content.subarray(half);
      if ((half !== 4 && half !== 16) || !isPrefixMask(mask)) {
        reader.fail('an iPAddress constraint that is no address and mask');
      }
      return { kind: 'ip', address: content.subarray(0, half), mask };
    }
    case TAGS.email: {
      const value = ascii(reader, tag);
      const [local, host, more] = value.includes('@') ? value.split('@') : ['x', value];
      if (more !== undefined || local === '' || !isDnsName((host ?? '').replace(/^\./, ''))) {
        reader.fail('a malformed rfc822Name constraint');
      }
      return { kind: 'email', value };
    }
    case TAGS.directory: {
      const inner = reader.enter(tag);
      const value = readName(inner);
      inner.finish();
      return { kind: 'directory', value };
    }
    default:
      reader.element();
      return { kind: 'unsupported', tag };
  }
}

function readSubtrees(reader: DerReader, number: number): NameSubtree[] {
  const tag = contextTag(number, 'constructed');
  if (!reader.nextIs(tag)) return [];
  const list = reader.enter(tag);
  if (list.done) list.fail('an empty list of name constraints');
  const subtrees: NameSubtree[] = [];
  while (!list.done) {
    const subtree = list.sequence();
    subtrees.push(readBase(subtree));
    // RFC 5280 §4.2.1.10: minimum is zero (so absent in DER) and maximum absent.
    subtree.finish();
  }
  return subtrees;
}

/** Reads the value of the nameConstraints extension. */
export function readNameConstraints(reader: DerReader): NameConstraints {
  const value = reader.sequence();
  const permitted = readSubtrees(value, 0);
  const excluded = readSubtrees(value, 1);
  value.finish();
  if (permitted.length + excluded.length === 0) value.fail('empty name constraints');
  return { permitted, excluded };
}

/** Parses a subtree as people write it: `example.com`, `10.0.0.0/8`, `fd00::/8`; throws `name.constraint_malformed`. */
export function parseNameSubtree(text: string): NameSubtree {
  const [base, bits, more] = text.split('/');
  const address = ipAddressOctets(base ?? '');
  if (address !== undefined && more === undefined) {
    const count = bits === undefined ? address.length * 8 : Number(bits);
    if (/^\d{1,3}$/.test(bits ?? '0') && count <= address.length * 8) {
      const mask = address.map((_, index) => {
        const ones = Math.min(8, Math.max(0, count - index * 8));
        return 0xff & (0xff << (8 - ones));
      });
      return { kind: 'ip', address: address.map((octet, index) => octet & (mask[index] as number)), mask };
    }
  }
  if (bits === undefined && address === undefined && isDnsName(text)) {
    return { kind: 'dns', value: text.toLowerCase() };
  }
  throw new TrustError(
    'name.constraint_malformed',
    'invalid',
    `cannot use name constraint ${JSON.stringify(text.slice(0, 60))}: neither a DNS name nor an address range`,
  );
}

function encodeSubtree(subtree: NameSubtree): Uint8Array {
  switch (subtree.kind) {
    case 'dns':
      return sequence(implicit(2, Buffer.from(subtree.value, 'latin1')));
    case 'email':
      return sequence(implicit(1, Buffer.from(subtree.value, 'latin1')));
    case 'ip':
      return sequence(element(TAGS.ip, subtree.address, subtree.mask));
    case 'directory':
      return sequence(explicit(4, subtree.value.der));
    case 'unsupported':
      throw new TrustError(
        'name.constraint_malformed',
        'invalid',
        'cannot encode name constraint: its form is not supported',
      );
  }
}

/** Encodes the value of the nameConstraints extension. */
export function encodeNameConstraints({ permitted, excluded }: NameConstraints): Uint8Array {
  return sequence(
    ...(permitted.length === 0 ? [] : [explicit(0, ...permitted.map(encodeSubtree))]),
    ...(excluded.length === 0 ? [] : [explicit(1, ...excluded.map(encodeSubtree))]),
  );
}

function dnsIsWithin(name: string, base: string): boolean {
  if (base === '') return true;
  if (base.startsWith('.')) return name.endsWith(base);
  return name === base || name.endsWith(`.${base}`);
}

function dnsMatches(name: string, base: string, list: 'permitted' | 'excluded'): boolean {
  const lower = name.toLowerCase();
  if (!lower.startsWith('*.')) return dnsIsWithin(lower, base);
  const parent = lower.slice(2);
  // All that `*.parent` stands for is below a base that holds the parent.
  if (dnsIsWithin(parent, base) || base === `.${parent}`) return true;
  // SECURITY: a wildcard that could stand for an excluded name is excluded (CVE-2025-61727).
  return (
    list === 'excluded' &&
    base.endsWith(`.${parent}`) &&
    base.indexOf('.') === base.length - parent.length - 1
  );
}

function emailMatches(name: string, base: string): boolean {
  const at = name.lastIndexOf('@');
  const host = name.slice(at + 1).toLowerCase();
  const baseAt = base.lastIndexOf('@');
  if (baseAt >= 0) {
    return name.slice(0, at) === base.slice(0, baseAt) && host === base.slice(baseAt + 1).toLowerCase();
  }
  return base.startsWith('.') ? host.endsWith(base.toLowerCase()) : host === base.toLowerCase();
}

function ipMatches(text: string, address: Uint8Array, mask: Uint8Array): boolean {
  const octets = ipAddressOctets(text);
  if (octets === undefined || octets.length !== address.length) return false;
  return octets.every(
    (octet, index) => ((octet ^ (address[index] as number)) & (mask[index] as number)) === 0,
  );
}

function tagOf(name: GeneralName): number {
  if (name.kind === 'other') return name.tag;
  return name.kind === 'uri' ? URI_TAG : TAGS[name.kind];
}

function matches(name: GeneralName, subtree: NameSubtree, list: 'permitted' | 'excluded'): boolean {
  switch (subtree.kind) {
    case 'dns':
      return name.kind === 'dns' && dnsMatches(name.value, subtree.value, list);
    case 'ip':
      return name.kind === 'ip' && ipMatches(name.value, subtree.address, subtree.mask);
    case 'email':
      return name.kind === 'email' && emailMatches(name.value, subtree.value);
    case 'directory':
      return name.kind === 'directory' && nameIsWithin(name.value, subtree.value);
    case 'unsupported':
      // RFC 5280 §4.2.1.10: a constrained form that is not processed refuses the names that use it.
      return list === 'excluded';
  }
}

/** The first of `names` that the constraints do not allow, or undefined (RFC 5280 §6.1.3 (b), (c)). */
export function findForbiddenName(
  constraints: NameConstraints,
  names: readonly GeneralName[],
): GeneralName | undefined {
  return names.find((name) => {
    const tag = tagOf(name);
    const applies = (subtree: NameSubtree) =>
      (subtree.kind === 'unsupported' ? subtree.tag : TAGS[subtree.kind]) === tag;
    const excluded = constraints.excluded.filter(applies);
    if (excluded.some((subtree) => matches(name, subtree, 'excluded'))) return true;
    const permitted = constraints.permitted.filter(applies);
    return permitted.length > 0 && !permitted.some((subtree) => matches(name, subtree, 'permitted'));
  });
}

/** All names of a certificate to which name constraints apply: alternative names, subject, its e-mail addresses. */
export function constrainedNames(subject: Name, alternativeNames: readonly GeneralName[]): GeneralName[] {
  const names: GeneralName[] = [...alternativeNames];
  if (subject.rdns.length > 0) names.push({ kind: 'directory', value: subject });
  if (!alternativeNames.some((name) => name.kind === 'email')) {
    for (const { type, value } of subject.rdns.flat()) {
      if (type === OID.emailAddress) names.push({ kind: 'email', value });
    }
  }
  return names;
}

/** A subtree as people write it: `example.com`, `10.0.0.0/8`. */
export function formatNameSubtree(subtree: NameSubtree): string {
  switch (subtree.kind) {
    case 'dns':
    case 'email':
      return subtree.value;
    case 'ip': {
      // The leading ones of each octet: masks are prefixes.
      const bits = subtree.mask.reduce((sum, octet) => sum + Math.clz32(~octet & 0xff) - 24, 0);
      return `${formatIpOctets(subtree.address) ?? ''}/${bits}`;
    }
    case 'directory':
      return formatName(subtree.value);
    case 'unsupported':
      return `tag ${subtree.tag}`;
  }
}
