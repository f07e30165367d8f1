import { OID } from '@virt-trust/pki/der/oid.ts';
import { contextTag, DerReader, TAG } from '@virt-trust/pki/der/reader.ts';
import { ipAddressOctets } from '@virt-trust/pki/ip-address.ts';
import type { GnutlsCertificate } from './certificate.ts';

type Kind = 'email' | 'dns' | 'directory' | 'uri' | 'ip';

interface Subtree {
  readonly kind: Kind;
  readonly content: Uint8Array;
}

interface Constraints {
  readonly permitted: readonly Subtree[];
  readonly excluded: readonly Subtree[];
}

const KINDS: Readonly<Record<number, Kind>> = { 1: 'email', 2: 'dns', 4: 'directory', 6: 'uri', 7: 'ip' };
const MAX_SUBTREES = 4096;

/**
 * Why an issuer's name constraints do not allow the certificate, undefined where they do
 * (gnutls_x509_name_constraints_check_crt, lib/x509/name_constraints.c): the CN counts as a DNS name and the subject's
 * e-mail address as one where no alternative name of that form is there; permitted directory names and URIs are not
 * looked at, any excluded one refuses every certificate that has such a name; permitted networks of IPv4 say nothing of IPv6.
 */
export function whyNamesForbidden(
  issuer: GnutlsCertificate,
  certificate: GnutlsCertificate,
  isForServers: boolean,
): string | undefined {
  if (issuer.nameConstraints === undefined) return undefined;
  let constraints: Constraints;
  try {
    constraints = readConstraints(issuer.nameConstraints);
  } catch {
    return 'its name constraints cannot be read';
  }
  const names = certificate.extensions.subjectAltName?.names ?? [];
  const excludes = (kind: Kind) => constraints.excluded.some((subtree) => subtree.kind === kind);
  if (excludes('directory'))
    return 'its name constraints exclude directory names, which every certificate has';
  if (excludes('uri') && names.some(({ kind }) => kind === 'uri')) return 'its name constraints exclude URIs';
  for (const kind of ['dns', 'email'] as const) {
    if (!concerns(constraints, kind)) continue;
    let values = names.flatMap((name) => (name.kind === kind ? [name.value] : []));
    if (values.length === 0 && (kind === 'email' || isForServers)) {
      const type = kind === 'dns' ? OID.commonName : OID.emailAddress;
      values = certificate.subject.rdns.flat().flatMap((each) => (each.type === type ? [each.value] : []));
      if (values.length > 1) return 'its name constraints do not allow more than one name in the subject';
    }
    const forbidden = values.find(
      (value) => !allows(constraints, kind, (base) => matches(kind, value, base)),
    );
    if (forbidden !== undefined) return `its name constraints do not allow ${JSON.stringify(forbidden)}`;
  }
  if (concerns(constraints, 'ip')) {
    for (const name of names) {
      if (name.kind === 'other' && name.tag === contextTag(7, 'primitive')) return 'a malformed address';
      if (name.kind !== 'ip') continue;
      const octets = ipAddressOctets(name.value) ?? new Uint8Array();
      const ofSize = (subtree: Subtree) =>
        subtree.kind !== 'ip' || subtree.content.length === 2 * octets.length;
      const own = {
        permitted: constraints.permitted.filter(ofSize),
        excluded: constraints.excluded.filter(ofSize),
      };
      if (!allows(own, 'ip', (range) => isInRange(octets, range)))
        return `its name constraints do not allow ${name.value}`;
    }
  }
  return undefined;
}

function concerns({ permitted, excluded }: Constraints, kind: Kind): boolean {
  return [...permitted, ...excluded].some((subtree) => subtree.kind === kind);
}

function allows(
  { permitted, excluded }: Constraints,
  kind: Kind,
  isWithin: (content: Uint8Array) => boolean,
): boolean {
  const ofKind = (subtree: Subtree) => subtree.kind === kind;
  if (excluded.filter(ofKind).some(({ content }) => isWithin(content))) return false;
  const wanted = permitted.filter(ofKind);
  return wanted.length === 0 || wanted.some(({ content }) => isWithin(content));
}

function matches(kind: 'dns' | 'email', value: string, content: Uint8Array): boolean {
  const base = toLowerAscii(Buffer.from(content).toString('latin1'));
  const name = toLowerAscii(value);
  if (kind === 'dns') {
    if (base === '') return true;
    return base.startsWith('.') ? name.endsWith(base) : name === base || name.endsWith(`.${base}`);
  }
  if (base.includes('@')) return name === base;
  const host = name.slice(name.lastIndexOf('@') + 1);
  return base.startsWith('.') ? host.endsWith(base) : host === base;
}

function isInRange(octets: Uint8Array, range: Uint8Array): boolean {
  return octets.every((octet, index) => {
    const mask = range[octets.length + index] ?? 0;
    return ((octet ^ (range[index] ?? 0)) & mask) === 0;
  });
}

function readConstraints(der: Uint8Array): Constraints {
  const reader = DerReader.over(der, { what: 'name constraints' });
  const value = reader.sequence();
  reader.finish();
  const constraints = { permitted: readSubtrees(value, 0), excluded: readSubtrees(value, 1) };
  value.finish();
  return constraints;
}

function readSubtrees(value: DerReader, number: number): Subtree[] {
  const tag = contextTag(number, 'constructed');
  if (!value.nextIs(tag)) return [];
  const list = value.enter(tag);
  const subtrees: Subtree[] = [];
  while (!list.done) {
    if (subtrees.length >= MAX_SUBTREES) list.fail(`more than ${MAX_SUBTREES} subtrees`);
    const subtree = list.enter(TAG.sequence);
    const form = subtree.nextTag();
    const kind = KINDS[form & 0x1f];
    if (kind === undefined) return subtree.fail('a form of name that GnuTLS does not constrain');
    const content = subtree.content(form);
    if (kind === 'ip' && !isRange(content)) subtree.fail('a malformed network');
    // minimum and maximum.
    while (!subtree.done) subtree.element();
    subtrees.push({ kind, content });
  }
  return subtrees;
}

/** An address and a mask of as many octets, ones before zeros. */
function isRange(content: Uint8Array): boolean {
  if (content.length !== 8 && content.length !== 32) return false;
  const bits = [...content.subarray(content.length / 2)]
    .map((octet) => octet.toString(2).padStart(8, '0'))
    .join('');
  return /^1*0*$/.test(bits);
}

function toLowerAscii(text: string): string {
  return text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}
