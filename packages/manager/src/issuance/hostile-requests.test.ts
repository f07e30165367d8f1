import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { type GeneralName, parseHostName } from '@virt-trust/pki/general-name.ts';
import { generatePrivateKey } from '@virt-trust/pki/key.ts';
import { decodePem, encodePem } from '@virt-trust/pki/pem.ts';
import { testInterface } from '../hosts/fixtures.ts';
import { declaringFleet } from '../interfaces/fixture-fleet.ts';
import { temporaryDirectory } from '../store/fixtures.ts';
import { requestPem } from './fixtures.ts';

/** Two hosts whose management, migration and displays are on networks of their own. */
async function separateNetworks(t: TestContext) {
  const fleet = await declaringFleet(t, temporaryDirectory(t));
  await fleet.setting('role.migration', ['10.0.1.0/24']);
  await fleet.setting('role.display', ['10.0.3.0/24']);
  for (const digit of [1, 2]) {
    const name = `kvm${digit}`;
    await fleet.add(name, `192.0.2.1${digit}`);
    await fleet.report(
      name,
      testInterface('eth1', [`10.0.1.1${digit}`]),
      testInterface('eth2', [`10.0.3.1${digit}`]),
      testInterface('virbr0', ['192.168.122.1'], { leftOut: "a network of libvirt's own" }),
    );
    await fleet.settle();
  }
  return fleet;
}

type Fleet = Awaited<ReturnType<typeof separateNetworks>>;

const OWN = '10.0.3.11';
/** A request for the vnc of kvm1 with these names, the right one being its display address alone. */
const asking = (...names: string[]) => requestPem({ commonName: 'kvm1', names });
const with_ = (...more: GeneralName[]) =>
  requestPem({ commonName: 'kvm1', sans: [parseHostName(OWN), ...more] });
const dns = (value: string): GeneralName => ({ kind: 'dns', value });
const ip = (value: string): GeneralName => ({ kind: 'ip', value });

/** The right request, with other octets in place of some of it. */
async function patched(from: string, to: Uint8Array): Promise<string> {
  const [block] = decodePem(await with_(dns(from)), { maxCharacters: 65_536, maxBlocks: 1 });
  const der = Buffer.from(block?.bytes ?? []);
  const at = der.indexOf(from);
  assert.ok(at > 0);
  der.set(to, at);
  return encodePem('CERTIFICATE REQUEST', der);
}

/** Made by OpenSSL, which is told the subject and every extension. */
function byOpenssl(
  t: TestContext,
  extensions: string,
  { key = 'ec -pkeyopt ec_paramgen_curve:P-256', subject = '/O=virt-trust/CN=kvm1' } = {},
): string {
  const directory = temporaryDirectory(t);
  const configuration = `[req]\ndistinguished_name=dn\nprompt=no\nreq_extensions=ext\n[dn]\n[ext]\n${extensions}\n`;
  writeFileSync(join(directory, 'req.cnf'), configuration);
  const run = (...words: string[]) =>
    execFileSync('openssl', words, { cwd: directory, encoding: 'utf8', stdio: 'pipe' });
  run('genpkey', '-algorithm', ...key.split(' '), '-out', 'key.pem');
  return run('req', '-new', '-key', 'key.pem', '-config', 'req.cnf', '-subj', subject);
}

interface Hostile {
  readonly csr: (t: TestContext, fleet: Fleet) => string | Promise<string>;
  readonly host?: string;
  readonly service?: Service;
  /** Before the request is made. */
  readonly first?: (fleet: Fleet) => Promise<unknown>;
}

const SAN = `subjectAltName=IP:${OWN}`;

const HOSTILE: readonly [what: string, one: Hostile | Hostile['csr'], rule: string][] = [
  ['another host’s address in the same role', () => with_(ip('10.0.3.12')), 'issuance.name_not_declared'],
  ['another host’s address alone', () => asking('10.0.3.12'), 'issuance.name_not_declared'],
  ['another host’s name', () => with_(dns('kvm2')), 'issuance.name_not_declared'],
  ['another host’s name in capitals', () => with_(dns('KVM2')), 'issuance.name_not_declared'],
  ['an address of its own other role', () => with_(ip('10.0.1.11')), 'issuance.name_not_expected'],
  ['its management address for a display', () => with_(ip('192.0.2.11')), 'issuance.name_not_expected'],
  ['its own name, which is management’s', () => with_(dns('kvm1')), 'issuance.name_not_expected'],
  ['the manager’s name', () => with_(dns('manager.example')), 'issuance.name_of_manager'],
  ['the manager’s address', () => with_(ip('10.0.2.254')), 'issuance.name_of_manager'],
  ['a name outside its domains', () => with_(dns('www.example.com')), 'issuance.name_not_declared'],
  ['a name below its own', () => with_(dns('x.kvm1')), 'issuance.name_not_declared'],
  ['an unclaimed address of an allowed subnet', () => with_(ip('10.0.3.99')), 'issuance.name_not_declared'],
  ['the network’s own address', () => with_(ip('10.0.3.0')), 'issuance.name_not_declared'],
  ['libvirt’s address on every host', () => with_(ip('192.168.122.1')), 'issuance.name_not_declared'],
  ['a wildcard', () => with_(dns('*.example')), 'issuance.name_wildcard'],
  ['a wildcard alone', () => with_(dns('*')), 'issuance.name_wildcard'],
  ['its address mapped to IPv6', () => with_(ip('::ffff:10.0.3.11')), 'issuance.address_mapped'],
  ['IPv4 loopback', () => with_(ip('127.0.0.1')), 'issuance.address_loopback'],
  ['IPv6 loopback', () => with_(ip('::1')), 'issuance.address_loopback'],
  ['an IPv4 link-local address', () => with_(ip('169.254.0.1')), 'issuance.address_link_local'],
  ['an IPv6 link-local address', () => with_(ip('fe80::1')), 'issuance.address_link_local'],
  ['an IPv4 multicast address', () => with_(ip('224.0.0.251')), 'issuance.address_multicast'],
  ['an IPv6 multicast address', () => with_(ip('ff02::1')), 'issuance.address_multicast'],
  ['the broadcast address', () => with_(ip('255.255.255.255')), 'issuance.address_multicast'],
  ['the unspecified address', () => with_(ip('0.0.0.0')), 'issuance.address_unspecified'],
  ['the unspecified IPv6 address', () => with_(ip('::')), 'issuance.address_unspecified'],
  ['localhost', () => with_(dns('localhost')), 'issuance.name_loopback'],
  ['a trailing dot', () => with_(dns('kvm1.')), 'issuance.name_malformed'],
  ['its address as a DNS name', () => with_(dns(OWN)), 'issuance.name_malformed'],
  ['a blank in a name', () => patched('kvm1.kvm2', Buffer.from('kvm1 kvm2')), 'issuance.name_malformed'],
  ['a homograph in punycode', () => with_(dns('xn--kvm1-5cd')), 'issuance.name_not_declared'],
  ['a NUL in a name', () => patched('kvm1.kvm2', Buffer.from('kvm1\0kvm2')), 'der.malformed'],
  ['a line feed in a name', () => patched('kvm1.kvm2', Buffer.from('kvm1\nkvm2')), 'der.malformed'],
  ['a homograph in Cyrillic', () => patched('kvm1.kvm2', Buffer.from('\u043avm1.kvm')), 'der.malformed'],
  ['a URI', () => with_({ kind: 'uri', value: 'spiffe://x/kvm1' }), 'issuance.name_kind'],
  ['an e-mail address', () => with_({ kind: 'email', value: 'root@kvm1' }), 'issuance.name_kind'],
  [
    'an otherName',
    (t) => byOpenssl(t, `subjectAltName=IP:${OWN},otherName:1.3.6.1.4.1.311.20.2.3;UTF8:root@kvm1`),
    'issuance.name_kind',
  ],
  [
    'a registered identifier',
    (t) => byOpenssl(t, `subjectAltName=IP:${OWN},RID:1.2.3.4`),
    'issuance.name_kind',
  ],
  ['an address twice', () => asking(OWN, OWN), 'issuance.name_duplicate'],
  [
    'less than its endpoints’ names',
    { service: 'libvirt', csr: () => asking('kvm1', '192.0.2.11') },
    'issuance.names_incomplete',
  ],
  [
    'more than its endpoints’ names',
    { service: 'libvirt', csr: () => asking('kvm1', '192.0.2.11', '10.0.1.11', OWN) },
    'issuance.name_not_expected',
  ],
  ['no name at all', () => asking(), 'issuance.names_incomplete'],
  [
    'to be a CA',
    (t) => byOpenssl(t, `${SAN}\nbasicConstraints=critical,CA:TRUE`),
    'issuance.extension_not_allowed',
  ],
  [
    'to sign certificates',
    (t) => byOpenssl(t, `${SAN}\nkeyUsage=keyCertSign`),
    'issuance.extension_not_allowed',
  ],
  [
    'to be a client',
    (t) => byOpenssl(t, `${SAN}\nextendedKeyUsage=clientAuth`),
    'issuance.extension_not_allowed',
  ],
  [
    'an extension that nobody knows',
    (t) => byOpenssl(t, `${SAN}\n1.2.3.4=ASN1:NULL`),
    'issuance.extension_not_allowed',
  ],
  [
    'another host’s common name',
    () => requestPem({ commonName: 'kvm2', names: [OWN] }),
    'issuance.subject_mismatch',
  ],
  [
    'another organization',
    () => requestPem({ commonName: 'kvm1', organization: 'evil', names: [OWN] }),
    'issuance.subject_mismatch',
  ],
  [
    'one more common name',
    (t) => byOpenssl(t, SAN, { subject: '/O=virt-trust/CN=kvm1/CN=kvm2' }),
    'issuance.subject_mismatch',
  ],
  ['an Ed25519 key', (t) => byOpenssl(t, SAN, { key: 'ed25519' }), 'issuance.key_not_allowed'],
  [
    'a curve that is not used',
    (t) => byOpenssl(t, SAN, { key: 'ec -pkeyopt ec_paramgen_curve:secp256k1' }),
    'key.refused',
  ],
  ['a short RSA key', (t) => byOpenssl(t, SAN, { key: 'rsa -pkeyopt rsa_keygen_bits:1024' }), 'key.refused'],
  [
    'a key that another host has a certificate for',
    async (_, { issuance }) => {
      const key = await generatePrivateKey('ecdsa-p256-sha256');
      const others = await requestPem({ key, commonName: 'kvm2', names: ['10.0.3.12'] });
      await issuance.issueForHost({ host: 'kvm2', service: 'vnc', csr: others, actor: 'test' });
      return requestPem({ key, commonName: 'kvm1', names: [OWN] });
    },
    'issuance.key_reused',
  ],
  [
    'a key that it can not show to have',
    async () => {
      const [block] = decodePem(await asking(OWN), { maxCharacters: 65_536, maxBlocks: 1 });
      const [other] = decodePem(await asking(OWN), { maxCharacters: 65_536, maxBlocks: 1 });
      const der = Buffer.from(block?.bytes ?? []);
      // The point of another key, and the signature of this one.
      const point = (bytes: Uint8Array) => Buffer.from(bytes).indexOf(Buffer.from('03420004', 'hex')) + 4;
      der.set(
        (other?.bytes ?? der).subarray(point(other?.bytes ?? der), point(other?.bytes ?? der) + 64),
        point(der),
      );
      return encodePem('CERTIFICATE REQUEST', der);
    },
    'signature.invalid',
  ],
  ['what is no request', () => 'x', 'issuance.request_malformed'],
  ['the request of a host that is not', { host: 'kvm9', csr: () => asking(OWN) }, 'issuance.host_unknown'],
  [
    'the request of a host that was revoked',
    {
      first: async ({ hostOf, repository, database, clock }) => {
        const { id } = await hostOf('kvm1');
        await repository.update(id, (now) => ({
          ...now,
          revoked: { at: clock.now(), reason: 'keyCompromise', comment: '' },
        }));
        database.run('insert into revoked_hosts (host, at) values (?, ?)', 'kvm1', clock.now());
      },
      csr: () => asking(OWN),
    },
    'issuance.host_revoked',
  ],
  [
    'the request of a host that is only observed',
    { first: (fleet) => changed(fleet, { observeOnly: true }), csr: () => asking(OWN) },
    'issuance.host_not_managed',
  ],
  [
    'the request of a host that is being removed',
    { first: (fleet) => changed(fleet, { state: 'removing' }), csr: () => asking(OWN) },
    'issuance.host_not_managed',
  ],
  [
    'an address that it had until a moment ago',
    {
      first: async (fleet) => {
        await fleet.report('kvm1', testInterface('eth2', ['10.0.3.21']));
        await fleet.settle();
      },
      csr: () => asking(OWN),
    },
    'issuance.name_not_declared',
  ],
];

async function changed({ hostOf, repository }: Fleet, change: { observeOnly?: boolean; state?: 'removing' }) {
  await repository.update((await hostOf('kvm1')).id, (now) => ({ ...now, ...change }));
}

for (const [what, hostile, rule] of HOSTILE) {
  test(`SECURITY: a request for ${what} is refused by ${rule}, and audited with it.`, async (t) => {
    const fleet = await separateNetworks(t);
    const one: Hostile = typeof hostile === 'function' ? { csr: hostile } : hostile;
    const { host = 'kvm1', service = 'vnc' } = one;
    await one.first?.(fleet);
    const csr = await one.csr(t, fleet);
    const before = (await fleet.audited('certificate.issue')).length;
    await assert.rejects(
      fleet.issuance.issueForHost({ host, service, csr, actor: 'agent of kvm1' }),
      (error) => isTrustError(error, rule),
    );
    const entries = (await fleet.audited('certificate.issue')).slice(before);
    assert.deepEqual(
      entries.map(({ actor, subject, outcome }) => [actor, subject, outcome]),
      [['agent of kvm1', `${host} ${service}`, 'refused']],
    );
    const detail = entries[0]?.detail ?? '';
    assert.ok(detail.startsWith(`${rule}: `), detail);
  });
}

test('The same requests without the wickedness are granted: each service its own endpoints’ names.', async (t) => {
  const { issuance } = await separateNetworks(t);
  const right: Readonly<Partial<Record<Service, string[]>>> = {
    libvirt: ['kvm1', '192.0.2.11', '10.0.1.11'],
    migration: ['10.0.1.11'],
    vnc: [OWN],
    spice: [OWN],
  };
  for (const [service, names] of Object.entries(right)) {
    const order = { host: 'kvm1', service: service as Service, csr: await asking(...names), actor: 'test' };
    assert.ok((await issuance.issueForHost(order)).pem, service);
  }
});
