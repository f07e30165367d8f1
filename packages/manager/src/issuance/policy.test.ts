import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import type { KeyAlgorithmName } from '@virt-trust/pki/algorithms.ts';
import { OID } from '@virt-trust/pki/der/oid.ts';
import { type GeneralName, parseHostName } from '@virt-trust/pki/general-name.ts';
import { generatePrivateKey, spkiOfKey } from '@virt-trust/pki/key.ts';
import { encodeName, type NameFields } from '@virt-trust/pki/name.ts';
import { parsePublicKeyInfo } from '@virt-trust/pki/public-key-info.ts';
import fc from 'fast-check';
import type { DeclaredHost } from './declared-names.ts';
import { KVM1 } from './fixtures.ts';
import { grantClientSubject, grantHostNames } from './policy.ts';

const publicKeyOf = async (kind: KeyAlgorithmName) =>
  parsePublicKeyInfo(spkiOfKey(await generatePrivateKey(kind)));
const P256 = await publicKeyOf('ecdsa-p256-sha256');
const ED25519 = await publicKeyOf('ed25519');
const RIGHT: readonly GeneralName[] = ['kvm1.example', '10.0.0.1', 'fd00::1'].map(parseHostName);

interface Case {
  readonly names?: readonly GeneralName[];
  readonly extensions?: readonly string[];
  readonly subject?: NameFields;
  readonly host?: DeclaredHost;
  readonly service?: 'libvirt' | 'vnc';
  readonly publicKey?: typeof P256;
}

function grant(one: Case) {
  return grantHostNames({
    host: one.host ?? KVM1,
    service: one.service ?? 'libvirt',
    organization: 'virt-trust',
    request: {
      subject: encodeName(one.subject ?? { organization: 'virt-trust', commonName: 'kvm1' }),
      names: one.names ?? RIGHT,
      extensions: one.extensions ?? [OID.subjectAltName],
      publicKey: one.publicKey ?? P256,
    },
    managerNames: { dns: ['manager.example'], addresses: ['10.0.0.254'] },
  });
}

const plus = (...names: GeneralName[]): Case => ({ names: [...RIGHT, ...names] });
const dns = (value: string): GeneralName => ({ kind: 'dns', value });
const ip = (value: string): GeneralName => ({ kind: 'ip', value });
/** A host that declares what nobody may have certified. */
const greedy = (dnsNames: string[], addresses: string[]): DeclaredHost => {
  const names = { dns: dnsNames, addresses };
  return { ...KVM1, names, services: { libvirt: { commonName: 'kvm1', names } } };
};

const HOSTILE: readonly [what: string, one: Case, rule: string][] = [
  ['another host’s name', plus(dns('kvm2.example')), 'issuance.name_not_declared'],
  ['another host’s address', plus(ip('10.0.0.2')), 'issuance.name_not_declared'],
  ['a name below its own', plus(dns('x.kvm1.example')), 'issuance.name_not_declared'],
  ['a name above its own', plus(dns('example')), 'issuance.name_not_declared'],
  ['its address as a DNS name', plus(dns('10.0.0.1')), 'issuance.name_malformed'],
  ['a wildcard over its own name', plus(dns('*.kvm1.example')), 'issuance.name_wildcard'],
  ['a wildcard inside a label', plus(dns('kvm*.example')), 'issuance.name_wildcard'],
  ['a NUL in a name', plus(dns('kvm1.example\u0000.evil')), 'issuance.name_malformed'],
  ['a line feed in a name', plus(dns('kvm1.example\n')), 'issuance.name_malformed'],
  ['shell syntax in a name', plus(dns('$(reboot)')), 'issuance.name_malformed'],
  ['a trailing dot', plus(dns('kvm1.example.')), 'issuance.name_malformed'],
  ['an empty name', plus(dns('')), 'issuance.name_malformed'],
  ['localhost', plus(dns('localhost')), 'issuance.name_loopback'],
  ['a name below localhost', plus(dns('a.localhost')), 'issuance.name_loopback'],
  ['an IPv4 loopback address', plus(ip('127.0.0.53')), 'issuance.address_loopback'],
  ['the IPv6 loopback address', plus(ip('::1')), 'issuance.address_loopback'],
  ['an IPv4 link-local address', plus(ip('169.254.169.254')), 'issuance.address_link_local'],
  ['an IPv6 link-local address', plus(ip('fe80::1')), 'issuance.address_link_local'],
  ['the unspecified address', plus(ip('0.0.0.0')), 'issuance.address_unspecified'],
  ['the unspecified IPv6 address', plus(ip('::')), 'issuance.address_unspecified'],
  ['a multicast address', plus(ip('ff02::1')), 'issuance.address_multicast'],
  ['the broadcast address', plus(ip('255.255.255.255')), 'issuance.address_multicast'],
  ['its address mapped to IPv6', plus(ip('::ffff:10.0.0.1')), 'issuance.address_mapped'],
  ['the manager’s name', plus(dns('MANAGER.example')), 'issuance.name_of_manager'],
  ['the manager’s address', plus(ip('10.0.0.254')), 'issuance.name_of_manager'],
  ['a URI', plus({ kind: 'uri', value: 'spiffe://x/y' }), 'issuance.name_kind'],
  ['an e-mail address', plus({ kind: 'email', value: 'root@kvm1.example' }), 'issuance.name_kind'],
  [
    'a directory name',
    plus({ kind: 'directory', value: encodeName({ commonName: 'x' }) }),
    'issuance.name_kind',
  ],
  ['one name twice', plus(dns('KVM1.example')), 'issuance.name_duplicate'],
  ['a name of another interface', plus(dns('storage.kvm1.example')), 'issuance.name_not_expected'],
  ['less than the endpoint’s names', { names: RIGHT.slice(1) }, 'issuance.names_incomplete'],
  ['no name', { names: [], extensions: [] }, 'issuance.names_incomplete'],
  [
    'basicConstraints',
    { extensions: [OID.subjectAltName, OID.basicConstraints] },
    'issuance.extension_not_allowed',
  ],
  ['extKeyUsage', { extensions: [OID.extKeyUsage] }, 'issuance.extension_not_allowed'],
  ['an unknown extension', { extensions: ['1.2.3.4'] }, 'issuance.extension_not_allowed'],
  [
    'another common name',
    { subject: { organization: 'virt-trust', commonName: 'kvm2' } },
    'issuance.subject_mismatch',
  ],
  [
    'another organization',
    { subject: { organization: 'evil', commonName: 'kvm1' } },
    'issuance.subject_mismatch',
  ],
  [
    'one more attribute',
    { subject: { country: 'XX', organization: 'virt-trust', commonName: 'kvm1' } },
    'issuance.subject_mismatch',
  ],
  ['no organization', { subject: { commonName: 'kvm1' } }, 'issuance.subject_mismatch'],
  ['a service that it does not have', { service: 'vnc' }, 'issuance.service_not_declared'],
  ['a key that old QEMU cannot use', { publicKey: ED25519 }, 'issuance.key_not_allowed'],
  [
    'a loopback address that was declared',
    { host: greedy([], ['127.0.0.1']), names: [ip('127.0.0.1')] },
    'issuance.address_loopback',
  ],
  [
    'the manager’s name that was declared',
    { host: greedy(['manager.example'], []), names: [dns('manager.example')] },
    'issuance.name_of_manager',
  ],
];

for (const [what, one, rule] of HOSTILE) {
  test(`A request for ${what} is refused by ${rule}.`, () => {
    assert.throws(
      () => grant(one),
      (error) => isTrustError(error, rule) && error.context['rule'] === rule && error.hint !== undefined,
    );
  });
}

test('A request with exactly the names of the endpoint is granted, whatever their order and case.', () => {
  const names = [ip('fd00:0:0::1'), dns('Kvm1.Example'), ip('10.0.0.1')];
  assert.deepEqual(grant({ names }), { commonName: 'kvm1', names });
});

test('A key of fewer than 2048 bits is refused.', async () => {
  const { generateKeyPairSync } = await import('node:crypto');
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
  const weak = parsePublicKeyInfo(publicKey.export({ type: 'spki', format: 'der' }));
  assert.throws(
    () => grant({ publicKey: weak }),
    (error) => isTrustError(error, 'key.refused'),
  );
});

test('No set of names is granted but the very set of the endpoint.', () => {
  const pool = [...RIGHT, dns('kvm2.example'), dns('storage.kvm1.example'), ip('10.0.0.9'), dns('*.example')];
  const right = new Set(RIGHT);
  fc.assert(
    fc.property(fc.uniqueArray(fc.constantFrom(...pool)), (names) => {
      const same = names.length === right.size && names.every((name) => right.has(name));
      let granted = true;
      try {
        grant({ names });
      } catch (error) {
        assert.ok(isTrustError(error));
        granted = false;
      }
      assert.equal(granted, same);
    }),
  );
});

test('A client gets a subject and no name.', () => {
  const request = {
    subject: encodeName({ organization: 'virt-trust', commonName: 'virt-trust migration 1' }),
    extensions: [],
    publicKey: P256,
  };
  const subject = { organization: 'virt-trust', commonName: 'virt-trust migration 1' };
  assert.deepEqual(grantClientSubject({ ...request, names: [] }, subject).names, []);
  assert.throws(
    () => grantClientSubject({ ...request, names: [dns('kvm1.example')] }, subject),
    (error) => isTrustError(error, 'issuance.client_names'),
  );
  assert.throws(
    () => grantClientSubject({ ...request, names: [] }, { ...subject, commonName: 'virt-trust migration 2' }),
    (error) => isTrustError(error, 'issuance.subject_mismatch'),
  );
});
