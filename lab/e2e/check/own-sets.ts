import { OID } from '@virt-trust/pki/der/oid.ts';
import { TAG } from '@virt-trust/pki/der/reader.ts';
import {
  element,
  explicit,
  implicit,
  octetString,
  oid,
  sequence,
  smallInteger,
  TRUE,
  utf8String,
} from '@virt-trust/pki/der/writer.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { KEY_SETS } from './key-sets.ts';
import {
  authorityKey,
  basicConstraints,
  extension,
  keyOf,
  keyPem,
  keyUsage,
  type Made,
  make,
  makeCrl,
  nameConstraints,
  nameOf,
  names,
  purposes,
  subjectKey,
  time,
  type Wanted,
} from './maker.ts';
import type { OwnSet } from './own-set.ts';

const CA_USE = [basicConstraints(true), keyUsage(['keyCertSign', 'cRLSign'], true)];
const SERVER = purposes([OID.serverAuth], true);
const CLIENT = purposes([OID.clientAuth], true);
const USE = keyUsage(['digitalSignature', 'keyEncipherment'], true);
const HOST = names([2, 'host.example'], [7, Uint8Array.of(192, 0, 2, 1)]);
const LEAF = [basicConstraints(false), USE, SERVER, HOST];

const root = make({ subject: 'O=lab,CN=root', extensions: CA_USE });
const other = make({ subject: 'O=lab,CN=other', key: 'other', extensions: CA_USE });
const intermediate = make({
  subject: 'O=lab,CN=intermediate',
  key: 'p384',
  issuer: root,
  extensions: CA_USE,
});
const expiredCa = make({ subject: 'O=lab,CN=expired', key: 'other', to: -1, extensions: CA_USE });
const futureCa = make({ subject: 'O=lab,CN=future', key: 'other', from: 1, extensions: CA_USE });
const server = make({ issuer: root, extensions: LEAF });
const EC = keyPem(keyOf('ec'));

function authority(wanted: Wanted): Made {
  return make({ extensions: CA_USE, ...wanted });
}

/** A leaf of the root's (or of another's) with what is said of it. */
function leaf(wanted: Wanted = {}): string {
  return make({ issuer: root, extensions: LEAF, ...wanted }).pem;
}

function own(name: string, more: Omit<Partial<OwnSet>, 'name'> = {}): OwnSet {
  return { name, role: 'server', ca: root.pem, cert: server.pem, key: EC, ...more };
}

function client(name: string, more: Omit<Partial<OwnSet>, 'name' | 'role'> = {}): OwnSet {
  return { name, role: 'client', ca: root.pem, ...more };
}

/** A set whose leaf has these extensions. */
function uses(name: string, extensions: readonly Uint8Array[], more: Partial<Wanted> = {}): OwnSet {
  return own(name, { cert: leaf({ extensions, ...more }), key: keyPem(keyOf(more.key ?? 'ec')) });
}

/** A set of a root of its own kind and a leaf under it. */
function under(name: string, ca: Made, more: Partial<Wanted> = {}, extra: Partial<OwnSet> = {}): OwnSet {
  const made = make({ issuer: ca, extensions: LEAF, ...more });
  return own(name, { ca: ca.pem, cert: made.pem, key: keyPem(made.key), ...extra });
}

function withBody(pem: string, change: (body: string) => string): string {
  return pem.replace(
    /(-----BEGIN [^-]+-----\n)([^-]*)/,
    (_, head: string, body: string) => head + change(body),
  );
}

const many = (count: number) =>
  Array.from(
    { length: count },
    (_, index) => authority({ subject: `CN=ca ${index}`, key: 'other' }).pem,
  ).join('');
const SKI = Uint8Array.of(1, 2, 3, 4);
const sameName = (key: 'ec' | 'other', more: Partial<Wanted> = {}) =>
  authority({ subject: 'O=lab,CN=twin', key, ...more });
const twin = sameName('ec');
const falseTwin = sameName('other');
const expiredTwin = sameName('ec', { to: -1 });
const dns = (text: string) => implicit(2, Buffer.from(text));
const network = (...octets: number[]) => implicit(7, Uint8Array.from(octets));
const constrained = (permitted: Uint8Array[], excluded: Uint8Array[], critical = true) =>
  make({
    subject: 'O=lab,CN=constrained',
    extensions: [...CA_USE, nameConstraints(permitted, excluded, critical)],
  });
const UNKNOWN = '1.3.6.1.4.1.99999.1';
const block = (label: string, pem: string) => pem.replaceAll('CERTIFICATE', label);

export const OWN_SETS: readonly OwnSet[] = [
  own('good'),
  own('no extensions', { cert: leaf({ extensions: [] }) }),
  client('client with a CA alone'),
  client('good client', { cert: leaf({ extensions: [USE, CLIENT] }), key: EC }),
  // Purposes and uses.
  uses('purpose of a client, critical', [USE, CLIENT]),
  uses('purpose of a client, not critical', [USE, purposes([OID.clientAuth], false)]),
  uses('both purposes, critical', [USE, purposes([OID.serverAuth, OID.clientAuth], true)]),
  uses('any purpose, critical', [USE, purposes([OID.anyExtendedKeyUsage], true)]),
  uses('any purpose, not critical', [USE, purposes([OID.anyExtendedKeyUsage], false)]),
  uses('unknown purpose, critical', [USE, purposes(['1.3.6.1.5.5.7.3.4'], true)]),
  uses('unknown purpose, not critical', [USE, purposes(['1.3.6.1.5.5.7.3.4'], false)]),
  uses('purpose of a client and an unknown one, critical', [USE, purposes([OID.clientAuth, UNKNOWN], true)]),
  client('client with a server’s certificate, critical', { cert: server.pem, key: EC }),
  client('client with a server’s certificate, not critical', {
    cert: leaf({ extensions: [USE, purposes([OID.serverAuth], false)] }),
    key: EC,
  }),
  uses('digital signature alone, critical, EC', [keyUsage(['digitalSignature'], true), SERVER]),
  uses('digital signature alone, not critical, EC', [keyUsage(['digitalSignature'], false), SERVER]),
  uses('digital signature alone, critical, RSA', [keyUsage(['digitalSignature'], true), SERVER], {
    key: 'rsa',
  }),
  uses('key encipherment alone, critical, RSA', [keyUsage(['keyEncipherment'], true), SERVER], {
    key: 'rsa',
  }),
  uses('key agreement alone, critical', [keyUsage(['keyAgreement'], true), SERVER]),
  uses('certificate signing alone, not critical', [keyUsage(['keyCertSign'], false), SERVER]),
  uses('no use at all, critical', [extension(OID.keyUsage, Uint8Array.of(3, 1, 0), true), SERVER]),
  uses('CA as leaf', CA_USE),
  uses('CA as leaf, basicConstraints not critical', [basicConstraints(true, undefined, false), USE]),
  own('the root itself as leaf', { cert: root.pem }),
  own('self-signed leaf that is its own CA file', {
    ca: make({ extensions: LEAF }).pem,
    cert: make({ extensions: LEAF }).pem,
  }),
  uses('path length in a leaf', [basicConstraints(false, 0), USE]),
  // The CA file.
  under(
    'CA without basicConstraints',
    make({ subject: 'CN=x', extensions: [keyUsage(['keyCertSign'], true)] }),
  ),
  under('CA with CA:FALSE', make({ subject: 'CN=x', extensions: [basicConstraints(false)] })),
  under(
    'CA that may not sign, critical',
    make({ subject: 'CN=x', extensions: [basicConstraints(true), keyUsage(['cRLSign'], true)] }),
  ),
  under(
    'CA that may not sign, not critical',
    make({ subject: 'CN=x', extensions: [basicConstraints(true), keyUsage(['cRLSign'], false)] }),
  ),
  own('another CA too that may not sign, not critical', {
    ca:
      root.pem +
      make({
        subject: 'CN=x',
        key: 'other',
        extensions: [basicConstraints(true), keyUsage(['cRLSign'], false)],
      }).pem,
  }),
  under('CA without keyUsage', make({ subject: 'CN=x', extensions: [basicConstraints(true)] })),
  under('CA of version 1', make({ subject: 'CN=v1', version: 1 })),
  own('leaf of version 1', { cert: leaf({ version: 1, extensions: [] }) }),
  own('leaf of version 1 with extensions', { cert: leaf({ version: 1 }) }),
  own('leaf of version 2', { cert: leaf({ version: 2, extensions: [] }) }),
  own('expired CA in the bundle, behind', { ca: root.pem + expiredCa.pem }),
  own('expired CA in the bundle, in front', { ca: expiredCa.pem + root.pem }),
  own('future CA in the bundle', { ca: root.pem + futureCa.pem }),
  own('another CA in the bundle', { ca: other.pem + root.pem }),
  own('CA of another', { ca: other.pem }),
  own('leaf in the CA file too', { ca: root.pem + server.pem }),
  own('16 other CAs, then the right one', { ca: many(16) + root.pem }),
  own('15 other CAs, then the right one', { ca: many(15) + root.pem }),
  own('the right one, then 20 other CAs', { ca: root.pem + many(20) }),
  own('the right one, 15 others, then an expired one', { ca: root.pem + many(15) + expiredCa.pem }),
  own('the right one, then rubbish in a certificate', {
    ca: root.pem + withBody(other.pem, (body) => body.replace(/^.{8}/, 'AAAAAAAA')),
  }),
  own('CA twice', { ca: root.pem + root.pem }),
  under('path length 0, leaf below', make({ subject: 'CN=x', extensions: [basicConstraints(true, 0)] })),
  under('twins: right key last', twin, {}, { ca: falseTwin.pem + twin.pem }),
  under('twins: right key first', twin, {}, { ca: twin.pem + falseTwin.pem }),
  under('twins: right one expired', twin, {}, { ca: expiredTwin.pem + twin.pem }),
  under(
    'twins told apart by key identifiers',
    sameName('ec', { extensions: [...CA_USE, subjectKey(SKI)] }),
    { extensions: [...LEAF, authorityKey(SKI)] },
    {
      ca:
        sameName('ec', { extensions: [...CA_USE, subjectKey(SKI)] }).pem +
        sameName('other', { extensions: [...CA_USE, subjectKey(Uint8Array.of(9))] }).pem,
    },
  ),
  under('key identifiers that disagree', sameName('ec', { extensions: [...CA_USE, subjectKey(SKI)] }), {
    extensions: [...LEAF, authorityKey(Uint8Array.of(9))],
  }),
  own('issuer’s name in another string type', {
    cert: make({
      issuer: { subject: sequence(), key: root.key },
      extensions: LEAF,
    }).pem,
  }),
  // Chains.
  under('intermediate in the CA file, without root', intermediate),
  under('intermediate and root in the CA file', intermediate, {}, { ca: intermediate.pem + root.pem }),
  own('intermediate in the certificate file', {
    cert: make({ issuer: intermediate, extensions: LEAF }).pem + intermediate.pem,
  }),
  own('intermediate missing', { cert: make({ issuer: intermediate, extensions: LEAF }).pem }),
  own('intermediate in both files', {
    ca: root.pem + intermediate.pem,
    cert: make({ issuer: intermediate, extensions: LEAF }).pem + intermediate.pem,
  }),
  own('leaf and root in the certificate file', { cert: server.pem + root.pem }),
  own('root before leaf in the certificate file', { cert: root.pem + server.pem }),
  own('leaf and a stranger in the certificate file', { cert: server.pem + other.pem }),
  own('leaf twice in the certificate file', { cert: server.pem + server.pem }),
  own('expired intermediate behind the leaf', {
    ca: root.pem + intermediate.pem,
    cert:
      make({ issuer: intermediate, extensions: LEAF }).pem +
      make({ subject: intermediate.subject, key: 'p384', issuer: root, to: -1, extensions: CA_USE }).pem,
  }),
  own('forged signature', { cert: leaf({ forged: true }) }),
  // Times.
  own('expired', { cert: leaf({ to: -1 }) }),
  own('not yet valid', { cert: leaf({ from: 1 }) }),
  own('valid beyond 2050', { cert: leaf({ to: 20_000 }) }),
  // Keys and signatures.
  own('key of another', { key: keyPem(keyOf('other')) }),
  own('key of another kind', { key: keyPem(keyOf('rsa')) }),
  own('EC key in SEC 1', { key: keyPem(keyOf('ec'), 'sec1') }),
  own('EC parameters, then the key in SEC 1', {
    key: `${encodePem('EC PARAMETERS', Uint8Array.from(Buffer.from('06082a8648ce3d030107', 'hex')))}${keyPem(keyOf('ec'), 'sec1')}`,
  }),
  own('RSA key in PKCS#1', { cert: leaf({ key: 'rsa' }), key: keyPem(keyOf('rsa'), 'pkcs1') }),
  own('encrypted key, PKCS#8', { key: keyPem(keyOf('ec'), 'pkcs8', 'secret') }),
  own('encrypted key, SEC 1', { key: keyPem(keyOf('ec'), 'sec1', 'secret') }),
  own('key file with the certificate in front', { key: server.pem + EC }),
  own('key file with another key behind', { key: EC + keyPem(keyOf('other')) }),
  own('key file with another key in front', { key: keyPem(keyOf('other')) + EC }),
  own('key in the certificate file too', { cert: EC + server.pem, key: EC + server.pem }),
  uses('RSA of 1024 bits', LEAF, { key: 'rsa1024' }),
  uses('RSA of 768 bits', LEAF, { key: 'rsa768' }),
  uses('EC P-521', LEAF, { key: 'p521' }),
  uses('EC secp256k1', LEAF, { key: 'secp256k1' }),
  uses('Ed25519', LEAF, { key: 'ed25519' }),
  uses('Ed448', LEAF, { key: 'ed448' }),
  uses('RSA-PSS key', LEAF, { key: 'pss' }),
  under('CA with RSA of 1024 bits', authority({ key: 'rsa1024', subject: 'CN=x' })),
  under('CA with RSA of 768 bits', authority({ key: 'rsa768', subject: 'CN=x' })),
  under('CA with Ed25519', authority({ key: 'ed25519', subject: 'CN=x' })),
  under('CA with Ed448', authority({ key: 'ed448', subject: 'CN=x' })),
  under('CA with RSA-PSS', authority({ key: 'pss', subject: 'CN=x' })),
  under('CA on secp256k1', authority({ key: 'secp256k1', subject: 'CN=x' })),
  under('leaf signed with SHA-1', authority({ key: 'rsa', subject: 'CN=x' }), { digest: 'sha1' }),
  under('leaf signed with MD5', authority({ key: 'rsa', subject: 'CN=x' }), { digest: 'md5' }),
  under('leaf signed with SHA-512', authority({ key: 'rsa', subject: 'CN=x' }), { digest: 'sha512' }),
  under('root signed with SHA-1', authority({ key: 'rsa', subject: 'CN=x', digest: 'sha1' })),
  under('root signed with MD5', authority({ key: 'rsa', subject: 'CN=x', digest: 'md5' })),
  under('root with a forged signature', authority({ subject: 'CN=x', forged: true })),
  own('leaf signed by EC with SHA-1', { cert: leaf({ digest: 'sha1' }) }),
  // Extensions and names.
  uses('unknown critical extension in the leaf', [...LEAF, extension(UNKNOWN, octetString(), true)]),
  uses('unknown extension in the leaf', [...LEAF, extension(UNKNOWN, octetString(), false)]),
  under(
    'unknown critical extension in the CA',
    authority({ subject: 'CN=x', extensions: [...CA_USE, extension(UNKNOWN, octetString(), true)] }),
  ),
  uses('critical policy', [
    ...LEAF,
    extension(OID.certificatePolicies, sequence(sequence(Uint8Array.of(6, 4, 0x55, 0x1d, 0x20, 0))), true),
  ]),
  uses('policy constraints, critical', [
    ...LEAF,
    extension('2.5.29.36', sequence(implicit(0, Uint8Array.of(0))), true),
  ]),
  uses('extension twice', [...LEAF, HOST]),
  under('name constraints that allow', constrained([dns('example')], [])),
  under('name constraints that forbid the DNS name', constrained([dns('other.test')], [])),
  under(
    'name constraints that forbid the DNS name, not critical',
    constrained([dns('other.test')], [], false),
  ),
  under(
    'name constraints that exclude the address',
    constrained([], [network(192, 0, 2, 0, 255, 255, 255, 0)]),
  ),
  under('name constraints that allow another network', constrained([network(10, 0, 0, 0, 255, 0, 0, 0)], [])),
  under('name constraints on a leaf without names', constrained([dns('other.test')], []), {
    extensions: [USE, SERVER],
  }),
  under('name constraints on a URI', constrained([implicit(6, Buffer.from('a.test'))], []), {
    extensions: [USE, SERVER, names([6, 'https://b.test/'])],
  }),
  uses('empty subject', LEAF, { subject: '' }),
  uses('subject longer than 256 bytes', LEAF, { subject: `O=${'x'.repeat(300)},CN=a` }),
  uses('NUL in a name', [USE, SERVER, names([2, 'a\0.example'])]),
  uses('name that is not ASCII', [USE, SERVER, names([2, 'h\u00f6st.example'])]),
  uses('address of 3 octets', [USE, SERVER, names([7, Uint8Array.of(1, 2, 3)])]),
  uses('no names in subjectAltName', [USE, SERVER, extension(OID.subjectAltName, sequence())]),
  uses('malformed keyUsage', [extension(OID.keyUsage, utf8String('x'), true), SERVER]),
  uses('malformed basicConstraints', [extension(OID.basicConstraints, utf8String('x'), true), SERVER]),
  uses('malformed extKeyUsage', [USE, extension(OID.extKeyUsage, utf8String('x'), true)]),
  uses('malformed subjectAltName', [USE, extension(OID.subjectAltName, utf8String('x'))]),
  uses('FALSE written out in basicConstraints', [
    extension(OID.basicConstraints, sequence(Uint8Array.of(1, 1, 0)), true),
    USE,
  ]),
  uses('TRUE as 0x01 in basicConstraints', [
    extension(OID.basicConstraints, sequence(Uint8Array.of(1, 1, 1)), true),
    USE,
  ]),
  uses('critical flag FALSE written out', [
    sequence(
      Uint8Array.from([6, 3, 0x55, 0x1d, 0x0f]),
      Uint8Array.of(1, 1, 0),
      octetString(Uint8Array.of(3, 2, 7, 0x80)),
    ),
  ]),
  uses('negative serial number', LEAF, { serial: Uint8Array.of(0x80, 1) }),
  uses('serial number 0', LEAF, { serial: Uint8Array.of(0) }),
  uses('serial number of 24 octets', LEAF, { serial: new Uint8Array(24).fill(0x11) }),
  under(
    'CA that says CA:TRUE with a path length and a leaf',
    authority({ subject: 'CN=x', extensions: [extension(OID.basicConstraints, sequence(TRUE), false)] }),
  ),
  // CRLs.
  own('CRL', { crl: makeCrl({ issuer: root }) }),
  own('CRL that revokes the certificate', { crl: makeCrl({ issuer: root, serials: [server.serial] }) }),
  own('CRL of another issuer', { crl: makeCrl({ issuer: other, serials: [server.serial] }) }),
  own('CRL expired', { crl: makeCrl({ issuer: root, to: -0.5 }) }),
  own('CRL of the future', { crl: makeCrl({ issuer: root, from: 5 }) }),
  own('CRL with a wrong signature', { crl: makeCrl({ issuer: root, forged: true }) }),
  own('CRL of version 1', { crl: makeCrl({ issuer: root, version: 1 }) }),
  own('CRL that is empty', { crl: '' }),
  own('CRL that is rubbish', { crl: 'hello\n' }),
  own('certificate in place of the CRL', { crl: root.pem }),
  own('CRL of which the second is rubbish', {
    crl: makeCrl({ issuer: root }) + withBody(makeCrl({ issuer: root }), (body) => body.slice(20)),
  }),
  own('directory in place of the CRL', { crl: { kind: 'directory' } }),
  own('CRL link that leads nowhere', { crl: { kind: 'dangling' } }),
  own('CRL in DER', {
    crl: Buffer.from(makeCrl({ issuer: root }).replace(/-----[^-]+-----|\n/g, ''), 'base64'),
  }),
  client('client with a CRL that is rubbish', { crl: 'hello\n' }),
  // Files.
  { name: 'nothing at all', role: 'server' },
  { name: 'client with nothing at all', role: 'client' },
  own('no CA file', { ca: { kind: 'dangling' } }),
  own('no certificate', { cert: { kind: 'dangling' } }),
  own('no key', { key: { kind: 'dangling' } }),
  own('no certificate nor key', { cert: { kind: 'dangling' }, key: { kind: 'dangling' } }),
  client('client without key', { cert: leaf({ extensions: [USE, CLIENT] }) }),
  client('client without certificate', { key: EC }),
  client('client with an expired certificate', {
    cert: leaf({ to: -1, extensions: [USE, CLIENT] }),
    key: EC,
  }),
  client('client with an expired certificate and no key', {
    cert: leaf({ to: -1, extensions: [USE, CLIENT] }),
  }),
  client('client with key of another', {
    cert: leaf({ extensions: [USE, CLIENT] }),
    key: keyPem(keyOf('other')),
  }),
  own('CA file empty', { ca: '' }),
  own('certificate empty', { cert: '' }),
  own('key empty', { key: '' }),
  own('CA file without a certificate', { ca: 'nothing here\n' }),
  own('directory in place of the CA', { ca: { kind: 'directory' } }),
  own('directory in place of the certificate', { cert: { kind: 'directory' } }),
  own('directory in place of the key', { key: { kind: 'directory' } }),
  own('certificate in DER', { cert: server.der }),
  own('CA in DER', { ca: root.der }),
  own('text around the certificate', { cert: `Certificate:\n  Data: x\n${server.pem}the end\n` }),
  own('text around the CA', { ca: `Bag Attributes\n  name: x\n${root.pem}the end\n` }),
  own('CRLF', {
    ca: root.pem.replaceAll('\n', '\r\n'),
    cert: server.pem.replaceAll('\n', '\r\n'),
    key: EC.replaceAll('\n', '\r\n'),
  }),
  own('no newline at the end', { cert: server.pem.trimEnd(), ca: root.pem.trimEnd() }),
  own('base64 on one line', { cert: withBody(server.pem, (body) => `${body.replaceAll('\n', '')}\n`) }),
  own('blank lines in the base64', { cert: withBody(server.pem, (body) => body.replaceAll('\n', '\n\n')) }),
  own('spaces before each line', { cert: withBody(server.pem, (body) => body.replace(/^/gm, '  ')) }),
  own('base64 with a wrong character', {
    cert: withBody(server.pem, (body) => body.replace(/^.{10}/, (head) => `${head}!`)),
  }),
  own('no END line', { cert: server.pem.replace(/-----END.*\n/, '') }),
  own('certificate cut off', { cert: server.pem.slice(0, 400) }),
  own('bytes behind the certificate in the block', {
    cert: encodePem('CERTIFICATE', Buffer.concat([server.der, Buffer.from('rest')])),
  }),
  own('X509 CERTIFICATE as label', {
    cert: block('X509 CERTIFICATE', server.pem),
    ca: block('X509 CERTIFICATE', root.pem),
  }),
  own('TRUSTED CERTIFICATE as label', { cert: block('TRUSTED CERTIFICATE', server.pem) }),
  own('certificate request in front', { cert: block('CERTIFICATE REQUEST', server.pem) + server.pem }),
  own('certificate request alone', { cert: block('CERTIFICATE REQUEST', server.pem) }),
  own('byte order mark', { cert: `\ufeff${server.pem}` }),
  own('NUL before the certificate', { cert: `\0${server.pem}` }),
  own('NUL behind the CA', { ca: `${root.pem}\0${other.pem}` }),
  own('CA file of 70,000 bytes', { ca: root.pem + '#'.repeat(70_000) }),
  own('certificate file of 70,000 bytes', { cert: server.pem + '#'.repeat(70_000) }),
  own('CA file of 65,535 bytes', { ca: root.pem.padEnd(65_535, '#') }),
  own('CA file of 65,536 bytes', { ca: root.pem.padEnd(65_536, '#') }),
  own('CA file of 65,537 bytes', { ca: root.pem.padEnd(65_537, '#') }),
  own('CRL of 200,000 bytes', { crl: makeCrl({ issuer: root }).padEnd(200_000, '#') }),
  own('headers inside the block', { cert: server.pem.replace('-----\n', '-----\nProc-Type: 4,CLEAR\n\n') }),
  // Modes: QEMU runs as a user of its own.
  own('key that root alone may read', { key: { content: EC, mode: 0o600 } }),
  own('CA that root alone may read', { ca: { content: root.pem, mode: 0o600 } }),
  own('certificate that root alone may read', { cert: { content: server.pem, mode: 0o600 } }),
  own('CRL that root alone may read', { crl: { content: makeCrl({ issuer: root }), mode: 0o600 } }),
  ...[
    '2.5.29.16',
    '2.5.29.54',
    '2.5.29.20',
    '2.5.29.33',
    '2.5.29.46',
    '2.5.29.9',
    '1.3.6.1.5.5.7.1.1',
    '1.3.6.1.5.5.7.1.14',
    '1.3.6.1.5.5.7.1.24',
    '1.3.6.1.4.1.11129.2.4.2',
    '1.3.6.1.4.1.11129.2.4.3',
    '1.3.6.1.5.5.7.1.11',
    '2.16.840.1.113730.1.1',
    '1.3.6.1.5.5.7.1.3',
    '2.5.29.31',
    '2.5.29.18',
    '2.5.29.35',
    '2.5.29.14',
  ].map((id) => uses(`critical extension ${id}`, [...LEAF, extension(id, sequence(), true)])),
  under('NC dns permitted, leaf IP only, server', constrained([dns('example')], []), {
    extensions: [USE, SERVER, names([7, Uint8Array.of(10, 0, 0, 1)])],
    subject: 'CN=a.example',
  }),
  under('NC dns permitted, leaf IP only, client EKU', constrained([dns('example')], []), {
    extensions: [USE, purposes([OID.clientAuth], false), names([7, Uint8Array.of(10, 0, 0, 1)])],
    subject: 'CN=a.test',
  }),
  under('NC dns permitted, no SAN no CN', constrained([dns('example')], []), {
    extensions: [USE, SERVER],
    subject: 'O=lab',
  }),
  under('NC dns permitted, no SAN, two CN', constrained([dns('example')], []), {
    extensions: [USE, SERVER],
    subject: 'CN=a.example,CN=b.example',
  }),
  under('NC dns excluded, no SAN no CN', constrained([], [dns('example')]), {
    extensions: [USE, SERVER],
    subject: 'O=lab',
  }),
  under('NC dns excluded, no SAN, CN elsewhere', constrained([], [dns('example')]), {
    extensions: [USE, SERVER],
    subject: 'CN=a.test',
  }),
  under('NC dns excluded match', constrained([], [dns('example')]), {}),
  under('NC dns permitted with leading dot', constrained([dns('.example')], []), {}),
  under('NC dns permitted with leading dot, exact', constrained([dns('.host.example')], []), {}),
  under('NC dns permitted case', constrained([dns('EXAMPLE')], []), {}),
  under('NC dns permitted suffix without dot', constrained([dns('ample')], []), {}),
  under('NC dns permitted empty', constrained([dns('')], []), {}),
  under('NC dns excluded empty', constrained([], [dns('')]), {}),
  under('NC dns permitted wildcard leaf', constrained([dns('example')], []), {
    extensions: [USE, SERVER, names([2, '*.example'])],
  }),
  under('NC dns excluded sub of wildcard leaf', constrained([], [dns('a.example')]), {
    extensions: [USE, SERVER, names([2, '*.example'])],
  }),
  under('NC ip permitted, leaf dns only', constrained([network(10, 0, 0, 0, 255, 0, 0, 0)], []), {
    extensions: [USE, SERVER, names([2, 'host.example'])],
  }),
  under('NC ip permitted, no SAN', constrained([network(10, 0, 0, 0, 255, 0, 0, 0)], []), {
    extensions: [USE, SERVER],
  }),
  under('NC ip permitted v4, leaf v6', constrained([network(10, 0, 0, 0, 255, 0, 0, 0)], []), {
    extensions: [USE, SERVER, names([7, new Uint8Array(16).fill(1)])],
  }),
  under('NC ip permitted v4, leaf in it', constrained([network(192, 0, 2, 0, 255, 255, 255, 0)], []), {}),
  under('NC ip permitted bad mask', constrained([network(192, 0, 2, 0, 255, 0, 255, 0)], []), {}),
  under('NC email permitted, leaf without', constrained([implicit(1, Buffer.from('example'))], []), {}),
  under('NC email excluded, leaf without', constrained([], [implicit(1, Buffer.from('example'))]), {}),
  under('NC email permitted, leaf email other', constrained([implicit(1, Buffer.from('example'))], []), {
    extensions: [USE, SERVER, names([1, 'a@b.test'])],
  }),
  under('NC email permitted, leaf email in', constrained([implicit(1, Buffer.from('example'))], []), {
    extensions: [USE, SERVER, names([1, 'a@example'])],
  }),
  under(
    'NC email permitted, leaf email in subdomain',
    constrained([implicit(1, Buffer.from('example'))], []),
    { extensions: [USE, SERVER, names([1, 'a@x.example'])] },
  ),
  under('NC email permitted, E in subject', constrained([implicit(1, Buffer.from('example'))], []), {
    extensions: [USE, SERVER],
    subject: 'CN=a,E=a@b.test',
  }),
  under('NC DN permitted other', constrained([explicit(4, nameOf('O=nobody'))], []), {}),
  under('NC DN excluded match', constrained([], [explicit(4, nameOf('O=lab'))]), {}),
  under('NC DN permitted, DN in SAN', constrained([explicit(4, nameOf('O=nobody'))], []), {
    extensions: [USE, SERVER, extension(OID.subjectAltName, sequence(explicit(4, nameOf('O=lab'))))],
  }),
  under('NC URI excluded, URI in leaf', constrained([], [implicit(6, Buffer.from('a.test'))]), {
    extensions: [USE, SERVER, names([6, 'https://a.test/'])],
  }),
  under('NC registeredID', constrained([], [implicit(8, Uint8Array.of(42))]), {}),
  under(
    'NC malformed',
    make({
      subject: 'CN=x',
      extensions: [...CA_USE, extension(OID.nameConstraints, utf8String('x'), false)],
    }),
    {},
  ),
  under(
    'NC empty sequence',
    make({ subject: 'CN=x', extensions: [...CA_USE, extension(OID.nameConstraints, sequence(), true)] }),
    {},
  ),
  under('EKU in CA of client only', make({ subject: 'CN=x', extensions: [...CA_USE, CLIENT] }), {}),
  uses('EKU empty sequence', [USE, extension(OID.extKeyUsage, sequence(), true)]),
  uses('KU padded', [extension(OID.keyUsage, Uint8Array.of(3, 3, 0, 0xa0, 0), true), SERVER]),
  uses('BC with pathlen negative', [
    extension(OID.basicConstraints, sequence(Uint8Array.of(2, 1, 0xff)), true),
    USE,
  ]),
  uses('BC trailing', [
    extension(OID.basicConstraints, Buffer.concat([sequence(), Uint8Array.of(5, 0)]), true),
    USE,
  ]),
  uses('KU trailing', [extension(OID.keyUsage, Uint8Array.of(3, 2, 5, 0xa0, 5, 0), true), SERVER]),
  uses('SKI malformed', [...LEAF, extension(OID.subjectKeyIdentifier, utf8String('x'))]),
  uses('AKI malformed', [...LEAF, extension(OID.authorityKeyIdentifier, utf8String('x'))]),
  uses('extensions empty list', []),
  under(
    'TLS feature in CA only',
    make({
      subject: 'CN=x',
      extensions: [...CA_USE, extension('1.3.6.1.5.5.7.1.24', sequence(smallInteger(5)))],
    }),
    {},
  ),
  under(
    'TLS feature in CA and leaf',
    make({
      subject: 'CN=x',
      extensions: [...CA_USE, extension('1.3.6.1.5.5.7.1.24', sequence(smallInteger(5)))],
    }),
    { extensions: [...LEAF, extension('1.3.6.1.5.5.7.1.24', sequence(smallInteger(5)))] },
  ),
  uses('TLS feature in leaf', [...LEAF, extension('1.3.6.1.5.5.7.1.24', sequence(smallInteger(5)))]),
  uses('SAN email only', [USE, SERVER, names([1, 'a@b'])]),
  uses('SAN with unknown tag', [
    USE,
    SERVER,
    extension(OID.subjectAltName, sequence(implicit(10, Uint8Array.of(1)))),
  ]),
  uses('subject with malformed RDN', LEAF, {
    subject: sequence(element(TAG.set, sequence(oid(OID.commonName)))),
  }),
  uses('subject not a sequence of sets', LEAF, { subject: sequence(utf8String('x')) }),
  uses('subject with bad UTF-8', LEAF, {
    subject: sequence(
      element(TAG.set, sequence(oid(OID.commonName), element(TAG.utf8String, Uint8Array.of(0xff, 0xfe)))),
    ),
  }),
  uses('expiring GeneralizedTime before 2050', LEAF, {
    rawTimes: [time(-10), element(TAG.generalizedTime, Buffer.from('20400101000000Z'))],
  }),
  uses('time without seconds', LEAF, {
    rawTimes: [element(TAG.utcTime, Buffer.from('2601010000Z')), time(100)],
  }),
  uses('time with offset', LEAF, {
    rawTimes: [element(TAG.utcTime, Buffer.from('260101000000+0100')), time(100)],
  }),
  uses('time 30 February', LEAF, {
    rawTimes: [element(TAG.utcTime, Buffer.from('260230000000Z')), time(100)],
  }),
  uses('time garbage', LEAF, { rawTimes: [element(TAG.utcTime, Buffer.from('xx0230000000Z')), time(100)] }),
  uses('never expires', LEAF, {
    rawTimes: [time(-10), element(TAG.generalizedTime, Buffer.from('99991231235959Z'))],
  }),
  own('two signature algorithms', { cert: leaf({ outerAlgorithm: 'sha384' }) }),
  own('CA file: good, then a leaf certificate of another CA', {
    ca: root.pem + other.pem + make({ issuer: other, extensions: [] }).pem,
  }),
  own('crl then key in CA file', { ca: root.pem + makeCrl({ issuer: root }) + EC }),
  own('cert chain unsorted in cert file', {
    ca: root.pem + intermediate.pem,
    cert: make({ issuer: intermediate, extensions: LEAF }).pem + root.pem + intermediate.pem,
  }),
  own('17 certificates in the certificate file', { cert: server.pem + many(17) }),
  own('rubbish certificate behind the leaf', {
    cert: server.pem + withBody(other.pem, (body) => body.replace(/^.{8}/, 'AAAAAAAA')),
  }),
  own('rubbish base64 behind the leaf', {
    cert: `${server.pem}-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n`,
  }),
  own('X509 label behind CERTIFICATE', { cert: server.pem + block('X509 CERTIFICATE', other.pem) }),
  own('key: no newline before END', { key: EC.replace('\n-----END', '-----END') }),
  own('key: CR only', { key: EC.replaceAll('\n', '\r') }),
  own('key: text in front', { key: `hello\n${EC}bye\n` }),
  own('key: public key in front', {
    key: `-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n${EC}`,
  }),
  own('key: DER', { key: keyOf('ec').export({ type: 'pkcs8', format: 'der' }) }),
  own('key: SEC1 DER with PKCS8 label', {
    key: encodePem('PRIVATE KEY', keyOf('ec').export({ type: 'sec1', format: 'der' })),
  }),
  own('key: PKCS8 DER with EC label', {
    key: encodePem('EC PRIVATE KEY', keyOf('ec').export({ type: 'pkcs8', format: 'der' })),
  }),
  own('key: broken first then good', {
    key: `-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n${EC}`,
  }),
  own('key: request of OpenSSL kind in front', {
    key: `-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n${EC}`,
  }),
  own('key: encrypted label, then plain', { key: keyPem(keyOf('other'), 'pkcs8', 'secret') + EC }),
  own('key: plain, then encrypted', { key: EC + keyPem(keyOf('other'), 'pkcs8', 'secret') }),
  own('key: trailing bytes', {
    key: encodePem(
      'PRIVATE KEY',
      Buffer.concat([keyOf('ec').export({ type: 'pkcs8', format: 'der' }), Buffer.from('xx')]),
    ),
  }),
  own('key: RSA in PKCS#1 for EC certificate', { key: keyPem(keyOf('rsa'), 'pkcs1') }),
  own('CRL label CRL', { crl: makeCrl({ issuer: root }).replaceAll('X509 CRL', 'CRL') }),
  own('CRL label RSA CRL', { crl: `${block('X509 CRL', makeCrl({ issuer: root }))}x` }),
  own('CRL text in front', { crl: `hello\n${makeCrl({ issuer: root })}bye` }),
  own('CRL certificate in front', { crl: root.pem + makeCrl({ issuer: root }) }),
  own('CRL trailing bytes', {
    crl: encodePem(
      'X509 CRL',
      Buffer.concat([
        Buffer.from(makeCrl({ issuer: root }).replace(/-----[^-]+-----|\n/g, ''), 'base64'),
        Buffer.from('xx'),
      ]),
    ),
  }),
  own('CRL without nextUpdate', { crl: makeCrl({ issuer: root, to: null }) }),
  own('CRL with NUL in front', { crl: `\0${makeCrl({ issuer: root })}` }),
  own('CA with NUL in front', { ca: `\0${root.pem}` }),
  own('CRL two of one issuer', {
    crl: makeCrl({ issuer: root }) + makeCrl({ issuer: root, serials: [server.serial] }),
  }),
  own('key with NUL in front', { key: `\0${EC}` }),
  own('cert: NUL between', { cert: `${server.pem}\0${other.pem}` }),
  client('client CA unreadable', { ca: { content: root.pem, mode: 0o600 } }),
  client('client cert unreadable', {
    cert: { content: leaf({ extensions: [USE, CLIENT] }), mode: 0o600 },
    key: EC,
  }),
  client('client CRL unreadable', { crl: { content: makeCrl({ issuer: root }), mode: 0o600 } }),
  client('client directory in place of key, cert missing', { key: { kind: 'directory' } }),
  own('DH parameters that are rubbish', { dh: 'hello\n' }),
  own('DH parameters that are empty', { dh: '' }),
  own('DH parameters that are no parameters', { dh: encodePem('DH PARAMETERS', sequence(utf8String('x'))) }),
  own('DH parameters that are a directory', { dh: { kind: 'directory' } }),
  own('no DH parameters', { dh: { kind: 'dangling' } }),
  client('client with DH parameters that are rubbish', { dh: 'hello\n' }),
  uses('RSA of 4096 bits', LEAF, { key: 'rsa4096' }),
  uses('EC P-192', LEAF, { key: 'p192' }),
  uses('EC P-224', LEAF, { key: 'p224' }),
  own('client’s identity that is broken beside the server’s', {}),
  own('key on the first line without a newline before it', { key: `x${EC}` }),
  own('OpenSSH key', {
    key: '-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n',
  }),
  own('public key in place of the key', {
    key: '-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n',
  }),
  own('ENCRYPTED label around a plain key', { key: EC.replaceAll('PRIVATE KEY', 'ENCRYPTED PRIVATE KEY') }),
  own('lower-case labels', { cert: server.pem.replaceAll('CERTIFICATE', 'certificate') }),
  own('four dashes', { cert: server.pem.replace('-----BEGIN', '----BEGIN') }),
  own('END of another label', { cert: server.pem.replace('END CERTIFICATE', 'END X509 CRL') }),
  own('padding missing', { cert: withBody(server.pem, (body) => body.replace(/=+\n$/, '\n')) }),
  own('comment between base64 and END', { cert: server.pem.replace('-----END', '# x\n-----END') }),
  uses('two basic constraints that disagree', [basicConstraints(false), basicConstraints(true)]),
  uses('subject key identifier, critical', [
    ...LEAF,
    extension(OID.subjectKeyIdentifier, octetString(Uint8Array.of(1)), true),
  ]),
  under('authority with the leaf’s own name', make({ subject: 'O=lab,CN=host', extensions: CA_USE })),
  under('leaf that names itself as issuer', make({ subject: 'O=lab,CN=host', extensions: CA_USE }), {
    subject: 'O=lab,CN=host',
  }),
  own('issuer’s name in another case', {
    cert: make({ issuer: { subject: nameOf('O=LAB,CN=ROOT'), key: root.key }, extensions: LEAF }).pem,
  }),
  own('leaf signed by the right name and another key', {
    cert: make({ issuer: { subject: root.subject, key: keyOf('other') }, extensions: LEAF }).pem,
  }),
  ...KEY_SETS,
];
