import { TrustError } from '@virt-trust/base/error.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { OID } from '@virt-trust/pki/der/oid.ts';
import { formatGeneralName, type GeneralName, isDnsName } from '@virt-trust/pki/general-name.ts';
import { canonicalIpAddress } from '@virt-trust/pki/ip-address.ts';
import { type Name, nameAttribute } from '@virt-trust/pki/name.ts';
import { acceptedKeyAlgorithm, type PublicKeyInfo } from '@virt-trust/pki/public-key-info.ts';
import type { DeclaredHost, DeclaredService } from './declared-names.ts';
import { addressOfNobody, dnsNameOfNobody } from './forbidden-names.ts';

/** What a request says, once its form was checked. */
export interface RequestFacts {
  readonly subject: Name;
  /** The names of subjectAltName, as requested. */
  readonly names: readonly GeneralName[];
  /** Object identifiers of all extensions that are requested. */
  readonly extensions: readonly string[];
  readonly publicKey: PublicKeyInfo;
}

export interface HostRequest {
  readonly host: DeclaredHost;
  readonly service: Service;
  readonly organization: string;
  readonly request: RequestFacts;
  /** Names and addresses under which the manager itself is known. */
  readonly managerNames: SubjectAltNames;
}

/** What may be certified. */
export interface Grant {
  readonly commonName: string;
  readonly names: readonly GeneralName[];
}

/** The kinds of key that the oldest libvirt and QEMU of the fleet can use. */
const KEY_FAMILIES: readonly string[] = ['ec', 'rsa'];

function refused(rule: string, what: string, reason: string, hint: string): TrustError {
  return new TrustError(rule, 'denied', `cannot issue a certificate for ${what}: ${reason}`, {
    context: { rule },
    hint,
  });
}

/**
 * Which names a certificate of a host's service may have: exactly those of its endpoints, each of them declared.
 * Pure; throws the rule that refused, `issuance.*`.
 */
export function grantHostNames({ host, service, organization, request, managerNames }: HostRequest): Grant {
  const what = `${service} of host ${host.name}`;
  const expected = host.services[service];
  if (expected === undefined) {
    throw refused(
      'issuance.service_not_declared',
      what,
      'the host has no endpoint of that service',
      'Look at the endpoints with `virt-trust host show`.',
    );
  }
  checkExtensions(request, what);
  checkKey(request.publicKey, what);
  checkSubject(request.subject, { commonName: expected.commonName, organization }, what);
  const requested = checkNames(request.names, host, managerNames, what);
  checkComplete(requested, expected, what);
  return { commonName: expected.commonName, names: request.names };
}

/** Whether a client's request is fit: the given subject, no name at all; throws the rule that refused. */
export function grantClientSubject(
  request: RequestFacts,
  subject: { readonly commonName: string; readonly organization: string },
): Grant {
  const what = `client ${subject.commonName}`;
  checkExtensions(request, what);
  checkKey(request.publicKey, what);
  checkSubject(request.subject, subject, what);
  if (request.names.length > 0) {
    throw refused('issuance.client_names', what, 'it asks for names', 'Make the request without any.');
  }
  return { commonName: subject.commonName, names: [] };
}

function checkExtensions(request: RequestFacts, what: string): void {
  const other = request.extensions.find((extension) => extension !== OID.subjectAltName);
  if (other === undefined) return;
  throw refused(
    'issuance.extension_not_allowed',
    what,
    `the request asks for extension ${other}`,
    'Make the request with subjectAltName only; the rest is decided by the profile.',
  );
}

function checkKey(key: PublicKeyInfo, what: string): void {
  const algorithm = acceptedKeyAlgorithm(key, `the key for ${what}`);
  if (KEY_FAMILIES.includes(algorithm.family)) return;
  throw refused(
    'issuance.key_not_allowed',
    what,
    `a key of kind ${algorithm.name}, which not every libvirt and QEMU can use`,
    'Make an EC P-256 key.',
  );
}

function checkSubject(
  subject: Name,
  expected: { readonly commonName: string; readonly organization: string },
  what: string,
): void {
  const [first, second] = subject.rdns;
  const single = subject.rdns.length === 2 && first?.length === 1 && second?.length === 1;
  const same =
    nameAttribute(subject, OID.organizationName) === expected.organization &&
    nameAttribute(subject, OID.commonName) === expected.commonName;
  if (single && same) return;
  throw refused(
    'issuance.subject_mismatch',
    what,
    'the subject of the request is not the one expected',
    `Make the request with subject O=${expected.organization}, CN=${expected.commonName}.`,
  );
}

/** The requested names in their comparable form; throws at the first that the host does not have. */
function checkNames(
  names: readonly GeneralName[],
  host: DeclaredHost,
  managerNames: SubjectAltNames,
  what: string,
): ReadonlySet<string> {
  const declared = namesOf(host.names);
  const manager = namesOf(managerNames);
  const requested = new Set<string>();
  for (const name of names) {
    const shown = formatGeneralName(name);
    const fail = (rule: string, reason: string) =>
      refused(rule, what, `${JSON.stringify(shown.slice(0, 120))} is asked for, and ${reason}`, hintOf(rule));
    const key = keyOf(name, fail);
    if (manager.has(key)) throw fail('issuance.name_of_manager', 'it is the manager’s own');
    if (!declared.has(key)) {
      throw fail('issuance.name_not_declared', 'no declared interface of the host has it');
    }
    if (requested.has(key)) throw fail('issuance.name_duplicate', 'it is there twice');
    requested.add(key);
  }
  return requested;
}

/** The comparable form of one name that can stand for a host at all. */
function keyOf(name: GeneralName, fail: (rule: string, reason: string) => TrustError): string {
  switch (name.kind) {
    case 'dns': {
      if (name.value.includes('*')) throw fail('issuance.name_wildcard', 'wildcards stand for many hosts');
      const value = name.value.toLowerCase();
      // SECURITY: control characters, NUL, blanks and everything else that is no label.
      if (!isDnsName(value)) throw fail('issuance.name_malformed', 'it is no host name');
      const nobody = dnsNameOfNobody(value);
      if (nobody !== undefined) throw fail(nobody.rule, nobody.reason);
      return `dns:${value}`;
    }
    case 'ip': {
      const nobody = addressOfNobody(name.value);
      if (nobody !== undefined) throw fail(nobody.rule, nobody.reason);
      return `ip:${canonicalIpAddress(name.value)}`;
    }
    case 'uri':
    case 'email':
    case 'directory':
    case 'other':
      throw fail('issuance.name_kind', 'only DNS names and addresses are certified');
  }
}

function checkComplete(requested: ReadonlySet<string>, expected: DeclaredService, what: string): void {
  const wanted = namesOf(expected.names);
  const more = [...requested].find((key) => !wanted.has(key));
  if (more !== undefined) {
    throw refused(
      'issuance.name_not_expected',
      what,
      `${more} is asked for, and the service has no endpoint with it`,
      'Make the request with the names of the service’s endpoints, all of them and no other.',
    );
  }
  const missing = [...wanted].find((key) => !requested.has(key));
  if (missing !== undefined || wanted.size === 0) {
    throw refused(
      'issuance.names_incomplete',
      what,
      missing === undefined ? 'the service has no name' : `${missing} is not asked for`,
      'Make the request with the names of the service’s endpoints, all of them and no other.',
    );
  }
}

const keys = new WeakMap<SubjectAltNames, ReadonlySet<string>>();

function namesOf(names: SubjectAltNames): ReadonlySet<string> {
  let set = keys.get(names);
  if (set === undefined) {
    set = new Set([
      ...names.dns.map((name) => `dns:${name.toLowerCase()}`),
      ...names.addresses.map((address) => `ip:${canonicalIpAddress(address)}`),
    ]);
    keys.set(names, set);
  }
  return set;
}

function hintOf(rule: string): string {
  return rule === 'issuance.name_not_declared'
    ? 'Where the host really has it, see why it does not count: `virt-trust interface list HOST`.'
    : 'Make the request with the names of the service’s endpoints, all of them and no other.';
}
