import type { KeyObject } from 'node:crypto';
import { OID } from '@virt-trust/pki/der/oid.ts';
import {
  element,
  explicit,
  implicit,
  octetString,
  oid,
  sequence,
  smallInteger,
  utf8String,
} from '@virt-trust/pki/der/writer.ts';
import {
  authorityKey,
  basicConstraints,
  extension,
  keyUsage,
  type Made,
  make,
  makeCrl,
  nameConstraints,
  nameOf,
  names,
  purposes,
  subjectKey,
  type Wanted,
} from './maker.ts';

/** What one side trusts, and what the other shows it. */
export interface PeerSet {
  readonly name: string;
  /** Which side judges. */
  readonly role: 'server' | 'client';
  readonly ca: string;
  readonly crl?: string;
  /** The certificate that the peer shows, its chain behind it. */
  readonly peer: string;
  readonly key: KeyObject;
  /** By what name a client reaches the peer; the peer's right one where left out. */
  readonly host?: string;
  /** The programs that this tells apart; both where left out. */
  readonly programs?: readonly ('libvirt' | 'qemu')[];
}

const CA_USE = [basicConstraints(true), keyUsage(['keyCertSign', 'cRLSign'], true)];
const USE = keyUsage(['digitalSignature', 'keyEncipherment'], true);
const PURPOSE = { server: OID.serverAuth, client: OID.clientAuth } as const;
const HOST_NAME = 'host.example';
const HOST = names([2, HOST_NAME]);
const UNKNOWN = '1.3.6.1.4.1.99999.1';
const TLS_FEATURE = extension('1.3.6.1.5.5.7.1.24', sequence(smallInteger(5)));

export const peerRoot = make({ subject: 'O=lab,CN=peer root', extensions: CA_USE });
const other = make({ subject: 'O=lab,CN=other', key: 'other', extensions: CA_USE });
const inter = make({ subject: 'O=lab,CN=inter', key: 'p384', issuer: peerRoot, extensions: CA_USE });
const second = make({ subject: 'O=lab,CN=second', key: 'p521', issuer: inter, extensions: CA_USE });

function leafUse(role: 'server' | 'client'): Uint8Array[] {
  return [basicConstraints(false), USE, purposes([PURPOSE[role]], true), HOST];
}

/** Every case for both sides: a peer of the root's whose certificate is this. */
function cases(role: 'server' | 'client'): PeerSet[] {
  const peerRole = role === 'server' ? 'client' : 'server';
  const LEAF = leafUse(peerRole);
  const leaf = (wanted: Wanted = {}) => make({ issuer: peerRoot, extensions: LEAF, ...wanted });
  const good = leaf();
  const set = (name: string, peer: Made, more: Partial<PeerSet> = {}): PeerSet => ({
    name: `${role}: ${name}`,
    role,
    ca: peerRoot.pem,
    peer: peer.pem,
    key: peer.key,
    ...more,
  });
  const uses = (name: string, extensions: readonly Uint8Array[], more: Partial<Wanted> = {}) =>
    set(name, leaf({ extensions, ...more }));
  const under = (name: string, ca: Made, more: Partial<Wanted> = {}, extra: Partial<PeerSet> = {}) =>
    set(name, make({ issuer: ca, extensions: LEAF, ...more }), { ca: peerRoot.pem + ca.pem, ...extra });
  const authority = (wanted: Wanted) => make({ subject: 'O=lab,CN=x', extensions: CA_USE, ...wanted });
  const wrong = purposes([PURPOSE[role]], true);
  const dns = (text: string) => implicit(2, Buffer.from(text));
  const constrained = (permitted: Uint8Array[], excluded: Uint8Array[]) =>
    authority({ extensions: [...CA_USE, nameConstraints(permitted, excluded)] });
  const viaInter = make({ issuer: inter, extensions: LEAF });
  const viaSecond = make({ issuer: second, extensions: LEAF });
  const expiredRoot = make({ subject: 'O=lab,CN=peer root', to: -1, extensions: CA_USE });
  const expiredInter = make({
    subject: 'O=lab,CN=inter',
    key: 'p384',
    issuer: peerRoot,
    to: -1,
    extensions: CA_USE,
  });
  return [
    set('good', good),
    set('of another authority', make({ issuer: other, extensions: LEAF })),
    set('self-signed', make({ extensions: LEAF })),
    set('self-signed and trusted', make({ extensions: LEAF, serial: Uint8Array.of(5) }), {
      ca: peerRoot.pem + make({ extensions: LEAF, serial: Uint8Array.of(5) }).pem,
    }),
    uses('no extensions but a name', [HOST]),
    uses('wrong purpose, critical', [USE, wrong, HOST]),
    uses('wrong purpose, not critical', [USE, purposes([PURPOSE[role]], false), HOST]),
    uses('any purpose, critical', [USE, purposes([OID.anyExtendedKeyUsage], true), HOST]),
    uses('unknown purpose, critical', [USE, purposes([UNKNOWN], true), HOST]),
    uses('digitalSignature alone, critical, EC', [keyUsage(['digitalSignature'], true), HOST]),
    uses('digitalSignature alone, not critical, EC', [keyUsage(['digitalSignature'], false), HOST]),
    uses('keyEncipherment alone, not critical, RSA', [keyUsage(['keyEncipherment'], false), HOST], {
      key: 'rsa',
    }),
    uses('keyEncipherment alone, not critical, EC', [keyUsage(['keyEncipherment'], false), HOST]),
    uses('nonRepudiation alone, not critical', [keyUsage(['contentCommitment'], false), HOST]),
    uses('malformed keyUsage', [extension(OID.keyUsage, utf8String('x')), HOST]),
    uses('malformed extKeyUsage', [USE, extension(OID.extKeyUsage, utf8String('x')), HOST]),
    uses('malformed basicConstraints', [USE, extension(OID.basicConstraints, utf8String('x')), HOST]),
    uses('CA as leaf', [...CA_USE, HOST]),
    uses('CA as leaf with digitalSignature', [basicConstraints(true), USE, HOST]),
    set('expired', leaf({ to: -1 })),
    set('not yet valid', leaf({ from: 1 })),
    set('forged signature', leaf({ forged: true })),
    set('version 1', leaf({ version: 1, extensions: [], subject: `CN=${HOST_NAME}` })),
    uses('unknown critical extension', [...LEAF, extension(UNKNOWN, octetString(), true)]),
    uses('must-staple', [...LEAF, TLS_FEATURE]),
    set('RSA of 768 bits', leaf({ key: 'rsa768' })),
    set('RSA of 1024 bits', leaf({ key: 'rsa1024' })),
    set('RSA of 2048 bits', leaf({ key: 'rsa' })),
    set('Ed25519', leaf({ key: 'ed25519' })),
    set('Ed448', leaf({ key: 'ed448' })),
    set('P-384', leaf({ key: 'p384' })),
    set('P-521', leaf({ key: 'p521' })),
    set('secp256k1', leaf({ key: 'secp256k1' })),
    set('P-224', leaf({ key: 'p224' })),
    set('P-192', leaf({ key: 'p192' })),
    set('PSS key', leaf({ key: 'pss' })),
    under('CA of RSA 768', authority({ key: 'rsa768' })),
    under('CA of RSA 1024', authority({ key: 'rsa1024' })),
    under('CA of P-192', authority({ key: 'p192' })),
    under('CA of RSA-PSS', authority({ key: 'pss' })),
    under('SHA-1', authority({ key: 'rsa' }), { digest: 'sha1' }),
    under('MD5', authority({ key: 'rsa' }), { digest: 'md5' }),
    under('SHA-384', authority({ key: 'rsa' }), { digest: 'sha384' }),
    under('root signed with SHA-1', authority({ key: 'rsa', digest: 'sha1' })),
    under('root signed with MD5', authority({ key: 'rsa', digest: 'md5' })),
    under('CA without basicConstraints', authority({ extensions: [keyUsage(['keyCertSign'], true)] })),
    under('CA with CA:FALSE', authority({ extensions: [basicConstraints(false)] })),
    under(
      'CA that may not sign, critical',
      authority({ extensions: [basicConstraints(true), keyUsage(['cRLSign'], true)] }),
    ),
    under(
      'CA that may not sign, not critical',
      authority({ extensions: [basicConstraints(true), keyUsage(['cRLSign'], false)] }),
    ),
    under('CA of version 1', make({ subject: 'CN=v1', version: 1 })),
    under('expired CA', authority({ to: -1 })),
    under('future CA', authority({ from: 1 })),
    under(
      'CA with a critical extension',
      authority({ extensions: [...CA_USE, extension(UNKNOWN, octetString(), true)] }),
    ),
    set('expired CA beside', good, { ca: peerRoot.pem + authority({ to: -1 }).pem }),
    set('expired twin behind', good, { ca: peerRoot.pem + expiredRoot.pem }),
    set('expired twin in front', good, { ca: expiredRoot.pem + peerRoot.pem }),
    set('intermediate sent along', viaInter, { peer: viaInter.pem + inter.pem }),
    set('intermediate missing', viaInter),
    set('intermediate trusted beside the root', viaInter, { ca: peerRoot.pem + inter.pem }),
    set('intermediate trusted alone', viaInter, { ca: inter.pem }),
    set('intermediate trusted alone, sent along too', viaInter, {
      ca: inter.pem,
      peer: viaInter.pem + inter.pem,
    }),
    set('root sent along', good, { peer: good.pem + peerRoot.pem }),
    set('chain and root sent along', viaInter, { peer: viaInter.pem + inter.pem + peerRoot.pem }),
    set('two intermediates', viaSecond, { peer: viaSecond.pem + second.pem + inter.pem }),
    set('two intermediates out of order', viaSecond, { peer: viaSecond.pem + inter.pem + second.pem }),
    set('two intermediates, one missing', viaSecond, { peer: viaSecond.pem + second.pem }),
    set('two intermediates, the upper one trusted', viaSecond, {
      ca: peerRoot.pem + inter.pem,
      peer: viaSecond.pem + second.pem,
    }),
    set('a stranger sent along', good, { peer: good.pem + other.pem }),
    set('an expired stranger sent along', good, {
      peer: good.pem + make({ subject: 'CN=old', key: 'other', to: -1, extensions: CA_USE }).pem,
    }),
    set('expired intermediate sent, valid one trusted', viaInter, {
      ca: peerRoot.pem + inter.pem,
      peer: viaInter.pem + expiredInter.pem,
    }),
    set('expired intermediate sent', viaInter, { peer: viaInter.pem + expiredInter.pem }),
    set('intermediate that is no CA', make({ issuer: good, extensions: LEAF }), {
      peer: make({ issuer: good, extensions: LEAF, serial: Uint8Array.of(9) }).pem + good.pem,
    }),
    ...[0, 1].map((length) => {
      const limited = authority({
        subject: 'O=lab,CN=limited',
        key: 'rsa',
        extensions: [basicConstraints(true, length), CA_USE[1] as Uint8Array],
      });
      const low = make({ subject: 'O=lab,CN=low', key: 'p384', issuer: limited, extensions: CA_USE });
      const end = make({ issuer: low, extensions: LEAF });
      return set(`path length ${length}, one authority between`, end, {
        ca: peerRoot.pem + limited.pem,
        peer: end.pem + low.pem,
      });
    }),
    set(
      'key identifiers that disagree',
      make({
        issuer: make({ subject: 'O=lab,CN=ski', extensions: [...CA_USE, subjectKey(Uint8Array.of(1))] }),
        extensions: [...LEAF, authorityKey(Uint8Array.of(2))],
      }),
      {
        ca:
          peerRoot.pem +
          make({ subject: 'O=lab,CN=ski', extensions: [...CA_USE, subjectKey(Uint8Array.of(1))] }).pem,
      },
    ),
    set('revoked', good, { crl: makeCrl({ issuer: peerRoot, serials: [good.serial] }) }),
    set('another revoked', good, { crl: makeCrl({ issuer: peerRoot, serials: [Uint8Array.of(7)] }) }),
    set('revoked by an expired CRL', good, {
      crl: makeCrl({ issuer: peerRoot, serials: [good.serial], to: -0.5 }),
    }),
    set('revoked by a CRL of the future', good, {
      crl: makeCrl({ issuer: peerRoot, serials: [good.serial], from: 3 }),
    }),
    set('revoked by a forged CRL', good, {
      crl: makeCrl({ issuer: peerRoot, serials: [good.serial], forged: true }),
    }),
    set('revoked by a CRL of another issuer', good, {
      crl: makeCrl({ issuer: other, serials: [good.serial] }),
    }),
    set('revoked by the second CRL', good, {
      crl: makeCrl({ issuer: other }) + makeCrl({ issuer: peerRoot, serials: [good.serial] }),
    }),
    set('revoked by the first of two CRLs of one issuer', good, {
      crl:
        makeCrl({ issuer: peerRoot, serials: [good.serial], from: -3 }) +
        makeCrl({ issuer: peerRoot, from: -1 }),
    }),
    set('revoked by the second of two CRLs of one issuer', good, {
      crl:
        makeCrl({ issuer: peerRoot, from: -3 }) +
        makeCrl({ issuer: peerRoot, serials: [good.serial], from: -1 }),
    }),
    set('revoked by the second, which is older', good, {
      crl:
        makeCrl({ issuer: peerRoot, from: -1 }) +
        makeCrl({ issuer: peerRoot, serials: [good.serial], from: -3 }),
    }),
    set('stale CRL, nothing revoked', good, { crl: makeCrl({ issuer: peerRoot, to: -0.5 }) }),
    set('intermediate revoked', viaInter, {
      peer: viaInter.pem + inter.pem,
      crl: makeCrl({ issuer: peerRoot, serials: [inter.serial] }),
    }),
    set('trusted intermediate revoked', viaInter, {
      ca: peerRoot.pem + inter.pem,
      crl: makeCrl({ issuer: peerRoot, serials: [inter.serial] }),
    }),
    set('leaf revoked by the intermediate', viaInter, {
      peer: viaInter.pem + inter.pem,
      crl: makeCrl({ issuer: inter, serials: [viaInter.serial] }),
    }),
    set('leaf revoked by the root, not its issuer', viaInter, {
      peer: viaInter.pem + inter.pem,
      crl: makeCrl({ issuer: peerRoot, serials: [viaInter.serial] }),
    }),
    set('root revoked by itself', good, { crl: makeCrl({ issuer: peerRoot, serials: [peerRoot.serial] }) }),
    under('name constraints that allow', constrained([dns('example')], [])),
    under('name constraints that forbid', constrained([dns('other.test')], [])),
    under('URI excluded, none in the leaf', constrained([], [implicit(6, Buffer.from('a.test'))])),
    under('directory name excluded, another', constrained([], [explicit(4, nameOf('O=nobody'))])),
    under(
      'otherName permitted',
      constrained([element(0xa0, oid('1.2.3'), explicit(0, utf8String('x')))], []),
    ),
    under('name constraints in the intermediate', constrained([dns('other.test')], []), {}),
    set('empty subject', leaf({ subject: '' })),
    set('subject of 300 octets', leaf({ subject: `O=${'x'.repeat(290)},CN=a` })),
    set('subject of 240 octets', leaf({ subject: `O=${'x'.repeat(240)},CN=a` })),
    set('serial number 0', leaf({ serial: Uint8Array.of(0) })),
    set('negative serial number, revoked', leaf({ serial: Uint8Array.of(0x80, 1) }), {
      crl: makeCrl({ issuer: peerRoot, serials: [Uint8Array.of(0x80, 1)] }),
    }),
    set('serial number of 24 octets, revoked', leaf({ serial: new Uint8Array(24).fill(0x11) }), {
      crl: makeCrl({ issuer: peerRoot, serials: [new Uint8Array(24).fill(0x11)] }),
    }),
  ];
}

/** Names, which a client alone looks at. */
function nameCases(): PeerSet[] {
  const set = (
    host: string,
    subject: string,
    list: readonly (readonly [number, string | Uint8Array])[],
    more: readonly Uint8Array[] = [],
  ): PeerSet => {
    const san = list.length === 0 ? [] : [names(...list)];
    const peer = make({ issuer: peerRoot, subject, extensions: [USE, ...san, ...more] });
    const shown = list.map(
      ([tag, value]) => `${tag}:${typeof value === 'string' ? value : Buffer.from(value).toString('hex')}`,
    );
    return {
      name: `client: ${host} for ${subject || 'no subject'} with ${shown.join(' ') || 'no names'}${more.length > 0 ? ' and purpose' : ''}`,
      role: 'client',
      ca: peerRoot.pem,
      peer: peer.pem,
      key: peer.key,
      host,
      programs: ['qemu'],
    };
  };
  const HOSTS = [
    'a.b.example',
    'A.B.EXAMPLE',
    'b.example',
    'x.a.b.example',
    'a.b.example.',
    '192.0.2.1',
    '2001:db8::1',
    'b\u00fccher.example',
    'xn--bcher-kva.example',
    'localhost',
  ];
  const LISTS: (readonly (readonly [number, string | Uint8Array])[])[] = [
    [[2, 'a.b.example']],
    [[2, '*.b.example']],
    [[2, '*.example']],
    [[2, '*.*.example']],
    [[2, '*']],
    [[2, 'a*.b.example']],
    [[2, '*a.b.example']],
    [[2, 'a.*.example']],
    [[2, 'a.b.example.']],
    [[2, '*.b.example.']],
    [[2, '192.0.2.1']],
    [[7, Uint8Array.of(192, 0, 2, 1)]],
    [[7, Uint8Array.from(Buffer.from('20010db8000000000000000000000001', 'hex'))]],
    [[7, Uint8Array.from(Buffer.from('00000000000000000000ffffc0000201', 'hex'))]],
    [[2, 'xn--bcher-kva.example']],
    [[2, 'b\u00fccher.example']],
    [[2, 'a.b.example\0.evil.test']],
    [[2, 'localhost']],
    [],
  ];
  const of = (list: (typeof LISTS)[number], index: number) =>
    HOSTS.filter((_, number) => number === 0 || (number + index) % 3 === 0).map((host) =>
      set(host, 'CN=other', list),
    );
  const CN: [string, string][] = [
    ['a.b.example', 'CN=a.b.example'],
    ['A.b.example', 'CN=a.b.example'],
    ['a.b.example', 'CN=*.b.example'],
    ['192.0.2.1', 'CN=192.0.2.1'],
    ['a.b.example', 'CN=a.b.example,CN=other'],
    ['a.b.example', 'CN=other,CN=a.b.example'],
  ];
  return [
    ...LISTS.flatMap(of),
    ...CN.map(([host, subject]) => set(host, subject, [])),
    set('a.b.example', 'CN=a.b.example', [[1, 'x@y']]),
    set('a.b.example', 'CN=a.b.example', [[6, 'https://x/']]),
    set('a.b.example', 'CN=a.b.example', [[7, Uint8Array.of(1, 2, 3, 4)]]),
    set('a.b.example', 'CN=a.b.example', [[8, Uint8Array.of(42)]]),
    set('a.b.example', 'CN=a.b.example', [[2, 'c.example']]),
    set('a.b.example', 'CN=a.b.example', [], [purposes([OID.clientAuth], false)]),
    set('a.b.example', 'CN=a.b.example', [], [purposes([OID.serverAuth], false)]),
    set('a.b.example', 'CN=a.b.example', [], [purposes([OID.anyExtendedKeyUsage], false)]),
    set('a.b.example', 'CN=a.b.example', [], [purposes(['1.3.6.1.5.5.7.3.4'], false)]),
    set('a.b.example', 'CN=other', [
      [2, 'x'.repeat(300)],
      [2, 'a.b.example'],
    ]),
    set('a.b.example', 'CN=a.b.example', [[2, 'x'.repeat(300)]]),
  ];
}

export const PEER_SETS: readonly PeerSet[] = [...cases('client'), ...cases('server'), ...nameCases()];
