import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createServer as createTlsServer } from 'node:tls';
import { parseInstant } from '@virt-trust/base/instant.ts';
import { RpcPacketReader } from '@virt-trust/libvirt/rpc.ts';
import { decodeSpiceLinkReply, encodeSpiceLink } from '@virt-trust/libvirt/spice-link.ts';
import { makeTestCertificate, type TestIdentity } from '@virt-trust/libvirt/test-certificates.ts';
import { encodeXdrUnsigned } from '@virt-trust/libvirt/xdr.ts';
import { prepareIssuer } from '@virt-trust/pki/certificate-issue.ts';
import { issueCrl } from '@virt-trust/pki/crl-issue.ts';
import { OID } from '@virt-trust/pki/der/oid.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import fc from 'fast-check';
import { type ClientFiles, libvirtClientFiles, vncClientFiles } from './client-files.ts';
import { diagnose } from './diagnosis.ts';
import type { ProbeReport } from './probe-report.ts';
import { parseProbeUri } from './probe-uri.ts';
import { type LibvirtdOptions, reply, serveLibvirtd, serveTcp, serveVnc } from './test-servers.ts';

const clock = { now: () => parseInstant('2026-06-01T00:00:00Z') };
const root = await makeTestCertificate({ subject: 'CN=root', ca: true });
const other = await makeTestCertificate({ subject: 'CN=other', ca: true });
const names = [{ kind: 'ip', value: '127.0.0.1' }] as const;
const server = await makeTestCertificate({ subject: 'CN=host1', issuer: root, names });
const client = await makeTestCertificate({ subject: 'O=x,CN=client', issuer: root });
const past = { notAfter: '2026-02-01T00:00:00Z' };

function crlOf(issuer: TestIdentity, revoked: TestIdentity): string {
  const der = issueCrl(prepareIssuer(issuer), {
    number: 1n,
    thisUpdate: parseInstant('2026-05-01T00:00:00Z'),
    nextUpdate: parseInstant('2027-05-01T00:00:00Z'),
    entries: [
      {
        serialNumber: revoked.certificate.serialNumber,
        revocationDate: parseInstant('2026-05-01T00:00:00Z'),
        reason: 'keyCompromise',
      },
    ],
  });
  return encodePem('X509 CRL', der);
}

/** A client's files in a directory of their own. */
function filesIn(t: TestContext, contents: Readonly<Record<string, string>>): ClientFiles {
  return libvirtClientFiles({ home: null }, directoryWith(t, contents));
}

function directoryWith(t: TestContext, contents: Readonly<Record<string, string>>): string {
  const directory = mkdtempSync(join(tmpdir(), 'virt-trust-probe-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(contents)) {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), text);
  }
  return directory;
}

const setOf = (identity: TestIdentity | undefined, authority: TestIdentity = root) => ({
  'cacert.pem': authority.pem,
  ...(identity === undefined ? {} : { 'clientcert.pem': identity.pem, 'clientkey.pem': identity.keyPem }),
});

async function probe(uri: string, files: ClientFiles): Promise<ProbeReport> {
  const checker = { program: 'libvirt', version: '9.0.0' } as const;
  const parsed = parseProbeUri(uri);
  return (await diagnose({ uri: parsed, files, checker, clock, timeoutMs: 60_000 })).report;
}

const said = ({ outcome, side, reason }: ProbeReport) => [outcome, side, reason];

interface Case {
  readonly title: string;
  readonly daemon?: Partial<LibvirtdOptions>;
  readonly files?: Readonly<Record<string, string>>;
  readonly parameters?: string;
  readonly expected: readonly [ProbeReport['outcome'], ProbeReport['side'], ProbeReport['reason']];
}

const byClient = (reason: ProbeReport['reason']) => ['refused', 'client', reason] as const;
const byServer = (reason: ProbeReport['reason']) => ['refused', 'server', reason] as const;
const leaf = (more: Partial<Parameters<typeof makeTestCertificate>[0]>) =>
  makeTestCertificate({ subject: 'CN=leaf', issuer: root, names, ...more });
const serverOnly = { purposes: { oids: [OID.serverAuth], critical: true } };
const clientOnly = { purposes: { oids: [OID.clientAuth], critical: true } };
const intermediate = await makeTestCertificate({ subject: 'CN=issuing', issuer: root, ca: true });

const CASES: readonly Case[] = [
  { title: 'both trust each other', expected: ['accepted', null, null] },
  {
    title: 'the server has another name',
    daemon: { identity: await leaf({ names: [{ kind: 'dns', value: 'host1.example' }] }) },
    expected: byClient('name'),
  },
  {
    title: 'the server is of another authority',
    daemon: { identity: await leaf({ issuer: other }) },
    expected: byClient('chain'),
  },
  {
    title: 'the intermediate authority is missing',
    daemon: { identity: await leaf({ issuer: intermediate }) },
    expected: byClient('chain'),
  },
  { title: 'the server has expired', daemon: { identity: await leaf(past) }, expected: byClient('date') },
  {
    title: 'the server is not valid yet',
    daemon: { identity: await leaf({ notBefore: '2026-12-01T00:00:00Z' }) },
    expected: byClient('date'),
  },
  {
    title: 'the server is revoked by the CRL that lies here',
    files: { ...setOf(client), 'cacrl.pem': crlOf(root, server) },
    expected: byClient('revoked'),
  },
  {
    title: "the server's certificate is for clients",
    daemon: { identity: await leaf(clientOnly) },
    expected: byClient('wrong_purpose'),
  },
  {
    title: 'no_verify takes whatever is shown',
    daemon: { identity: await leaf({ ...past, issuer: other }) },
    parameters: '&no_verify=1',
    expected: ['accepted', null, null],
  },
  {
    title: 'the client has no certificate',
    files: setOf(undefined),
    expected: byServer('no_client_certificate'),
  },
  {
    title: 'the client has a certificate and no key, and so none',
    files: { ...setOf(undefined), 'clientcert.pem': client.pem },
    expected: byServer('no_client_certificate'),
  },
  {
    title: "the client's certificate has expired",
    files: setOf(await leaf(past)),
    expected: byClient('own_date'),
  },
  {
    title: "the client's certificate is for servers",
    files: setOf(await leaf(serverOnly)),
    expected: byClient('own_wrong_purpose'),
  },
  {
    title: "the client's certificate is of an authority that it does not trust itself",
    files: setOf(await leaf({ issuer: other })),
    expected: byClient('own_chain'),
  },
  {
    title: 'as before, and the client does not look at its own',
    files: setOf(await leaf({ issuer: other })),
    parameters: '&no_sanity=1',
    expected: byServer('client_chain'),
  },
  {
    title: 'the server trusts other authorities than the client',
    daemon: { clientAuthority: other },
    expected: byServer('client_refused'),
  },
  {
    title: "the client's certificate is revoked by the CRL that lies here",
    daemon: { clientAuthority: other },
    files: { ...setOf(client), 'cacrl.pem': crlOf(root, client) },
    expected: byServer('client_revoked'),
  },
  { title: 'there is no CA file', files: {}, expected: byClient('own_ca') },
  { title: 'the CA file is none', files: { 'cacert.pem': 'x' }, expected: byClient('own_ca') },
  {
    title: 'one CA of the file has expired',
    files: {
      ...setOf(client),
      'cacert.pem': root.pem + (await makeTestCertificate({ subject: 'CN=old', ca: true, ...past })).pem,
    },
    expected: byClient('own_date'),
  },
  {
    title: "the key is another certificate's",
    files: { ...setOf(client), 'clientkey.pem': server.keyPem },
    expected: byClient('own_key'),
  },
  { title: 'the CRL is none', files: { ...setOf(client), 'cacrl.pem': 'x' }, expected: byClient('own_crl') },
];

for (const { title, daemon, files = setOf(client), parameters = '', expected } of CASES) {
  test(`a probe of libvirt says who refuses and why: ${title}`, async (t) => {
    const { port } = await serveLibvirtd(t, { identity: server, clientAuthority: root, ...daemon });
    const directory = directoryWith(t, files);
    const uri = `qemu+tls://127.0.0.1:${port}/system?pkipath=${directory}${parameters}`;
    const report = await probe(uri, libvirtClientFiles({ home: null }, directory));
    assert.deepEqual(said(report), expected, JSON.stringify(report));
    assert.equal(report.hint === null, report.outcome === 'accepted');
    if (report.reason?.startsWith('own_') !== true)
      assert.ok(report.served !== null, 'what was served is shown');
  });
}

test('a refusal by the server names what can be known from here, and what can not', async (t) => {
  const { port } = await serveLibvirtd(t, { identity: server, clientAuthority: other });
  const { causes } = await probe(`qemu+tls://127.0.0.1:${port}/system`, filesIn(t, setOf(client)));
  const standing = new Map(causes.map((cause) => [cause.reason, cause.standing]));
  assert.equal(standing.get('no_client_certificate'), 'excluded');
  assert.equal(standing.get('client_date'), 'excluded');
  assert.equal(standing.get('client_chain'), 'possible');
  assert.equal(standing.get('dn_list'), 'possible');
  assert.match(causes.find(({ reason }) => reason === 'dn_list')?.detail ?? '', /O=x,CN=client/);
});

test('where nobody listens, where no TLS is spoken, and where libvirt listens without it, the probe says so', async (t) => {
  const files = filesIn(t, setOf(client));
  const libvirt = (port: number) => probe(`qemu+tls://127.0.0.1:${port}/system`, files);
  assert.deepEqual(said(await libvirt(1)), ['unreachable', null, 'not_listening']);
  assert.deepEqual(said(await probe('qemu+tls://no.such.host.invalid/system', files)), [
    'unreachable',
    null,
    'host_unknown',
  ]);
  const ssh = await serveTcp(t, (socket) => {
    socket.resume();
    socket.end('SSH-2.0-x\r\n');
  });
  const spoken = await libvirt(ssh);
  assert.deepEqual(said(spoken), ['refused', 'client', 'not_tls']);
  assert.equal(spoken.detail, 'what listens there does not speak TLS: wrong version number');
  const plain = await serveTcp(t, (socket) => {
    const reader = new RpcPacketReader();
    socket.on('data', (bytes: Buffer) => {
      try {
        for (const call of reader.push(bytes))
          socket.write(reply(call, Buffer.concat([encodeXdrUnsigned(1), encodeXdrUnsigned(0)])));
      } catch {
        socket.destroy();
      }
    });
  });
  assert.deepEqual(said(await libvirt(plain)), ['refused', 'client', 'plain_tcp']);
});

test('libvirt looks for CA and CRL each by itself and for certificate and key as a pair, the user’s before the system’s', (t) => {
  const home = directoryWith(t, { '.pki/libvirt/cacert.pem': 'user', '.pki/libvirt/clientcert.pem': 'user' });
  const system = directoryWith(t, {
    'etc/pki/CA/cacert.pem': 'system',
    'etc/pki/CA/cacrl.pem': 'system',
    'etc/pki/libvirt/clientcert.pem': 'system',
    'etc/pki/libvirt/private/clientkey.pem': 'system',
  });
  const whose = (files: ClientFiles) =>
    Object.values(files).map(({ state }) => (state.kind === 'text' ? state.text : state.kind));
  assert.deepEqual(whose(libvirtClientFiles({ home, root: system })), ['user', 'system', 'system', 'system']);
  writeFileSync(join(home, '.pki/libvirt/clientkey.pem'), 'user');
  assert.deepEqual(whose(libvirtClientFiles({ home, root: system })), ['user', 'system', 'user', 'user']);
  assert.deepEqual(whose(libvirtClientFiles({ home: null, root: system })), Array(4).fill('system'));
  const pkipath = join(home, '.pki/libvirt');
  assert.deepEqual(whose(libvirtClientFiles({ home, root: system }, pkipath)), [
    'user',
    'missing',
    'user',
    'user',
  ]);
});

test('a probe of VNC says who refuses and why', async (t) => {
  const layout = (identity?: TestIdentity) => ({
    '.pki/CA/cacert.pem': root.pem,
    ...(identity === undefined
      ? {}
      : {
          '.pki/libvirt-vnc/clientcert.pem': identity.pem,
          '.pki/libvirt-vnc/private/clientkey.pem': identity.keyPem,
        }),
  });
  const vnc = (port: number, identity?: TestIdentity) =>
    probe(
      `vnc://127.0.0.1:${port}`,
      vncClientFiles({ home: directoryWith(t, layout(identity)), root: '/nonexistent' }),
    );
  const verifying = await serveVnc(t, { identity: server, subtype: 260, clientAuthority: root });
  assert.deepEqual(said(await vnc(verifying, client)), ['accepted', null, null]);
  assert.deepEqual(said(await vnc(verifying)), byServer('no_client_certificate'));
  const expired = await serveVnc(t, { identity: await leaf(past), subtype: 260 });
  assert.deepEqual(said(await vnc(expired)), byClient('date'));
  const strange = await serveVnc(t, { identity: await leaf({ issuer: other }), subtype: 260 });
  assert.deepEqual(said(await vnc(strange)), byClient('chain'));
  const plain = await serveTcp(t, (socket) =>
    socket.write(Buffer.concat([Buffer.from('RFB 003.008\n'), Buffer.of(1, 1)])),
  );
  assert.deepEqual(said(await vnc(plain)), byClient('no_tls_offered'));
  const ssh = await serveTcp(t, (socket) => socket.write('SSH-2.0-OpenSSH\r\n'));
  assert.deepEqual(said(await vnc(ssh)), byClient('wrong_protocol'));
});

/** SPICE on the wire up to the link reply. */
async function serveSpice(t: TestContext, identity: TestIdentity, answer: Uint8Array): Promise<number> {
  const tls = createTlsServer({ key: identity.keyPem, cert: identity.pem }, (socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.write(answer));
  });
  return serveTcp(t, (socket) => tls.emit('connection', socket));
}

/** SpiceLinkHeader, the error, and as much as follows it. */
function linkReply(error: number): Uint8Array {
  const bytes = Buffer.from(encodeSpiceLink());
  bytes.writeUInt32LE(error, 16);
  return bytes;
}

test('a probe of SPICE says who refuses and why, by name or by subject', async (t) => {
  const files = filesIn(t, setOf(undefined));
  const spice = (port: number, more = '') => probe(`spice://127.0.0.1?tls-port=${port}${more}`, files);
  const good = await serveSpice(t, server, linkReply(0));
  assert.deepEqual(said(await spice(good)), ['accepted', null, null]);
  const subject = await serveSpice(
    t,
    await leaf({ subject: 'O=a b,CN=c', names: [{ kind: 'dns', value: 'x' }] }),
    linkReply(0),
  );
  assert.deepEqual(said(await spice(subject)), byClient('name'));
  assert.deepEqual(said(await spice(subject, '&host-subject=O%3Da%20b,%20CN%3Dc')), ['accepted', null, null]);
  assert.deepEqual(said(await spice(subject, '&host-subject=CN%3Dc,O%3Da%20b')), byClient('name'));
  assert.deepEqual(said(await spice(await serveSpice(t, server, linkReply(7)))), byServer('server_error'));
  assert.deepEqual(
    said(await spice(await serveSpice(t, server, Buffer.from('RFB 003')))),
    byClient('wrong_protocol'),
  );
  assert.deepEqual(said(await spice(await serveTcp(t, (socket) => socket.end()))), byClient('not_tls'));
});

test('SPICE: a link reply is read within bounds, whatever it holds', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      for (const reply of [bytes, Buffer.concat([Buffer.from('REDQ'), bytes])]) {
        try {
          decodeSpiceLinkReply(reply);
        } catch (error) {
          assert.match(String((error as { code?: unknown }).code), /^spice\./);
        }
      }
    }),
  );
});

test('what is no URI of libvirt, VNC or SPICE is refused, and what is keeps host, port and parameters', () => {
  for (const uri of [
    'https://h/',
    'qemu+tls:///system',
    'spice://h',
    'spice://h?tls-port=x',
    'vnc:',
    'qemu+ssh://h/system',
    'vnc://a%20b',
    'vnc://%zz/',
  ])
    assert.throws(() => parseProbeUri(uri), { code: 'probe.uri' }, uri);
  const parsed = parseProbeUri(
    'qemu+tls://[2001:db8::1]:1/system?pkipath=/p&no_verify=1&tls_priority=NORMAL',
  );
  const { kind, host, port } = parsed;
  assert.deepEqual([kind, host, port], ['libvirt', '2001:db8::1', 1]);
  assert.deepEqual(parseProbeUri('vnc://h'), { kind: 'vnc', host: 'h', port: 5900 });
  fc.assert(
    fc.property(fc.oneof(fc.webUrl(), fc.string()), (text) => {
      try {
        parseProbeUri(text);
      } catch (error) {
        assert.equal((error as { code?: unknown }).code, 'probe.uri');
      }
    }),
  );
});
