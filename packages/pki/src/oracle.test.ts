import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { systemClock } from '@virt-trust/base/clock.ts';
import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { KeyAlgorithmName } from './algorithms.ts';
import { type Certificate, encodeCertificatesPem, parseCertificates } from './certificate.ts';
import { formatGeneralName, parseHostName } from './general-name.ts';
import { encodePrivateKeyPem, generatePrivateKey } from './key.ts';
import { encodeName, formatName } from './name.ts';
import { parseNameSubtree } from './name-constraints.ts';
import { verifyPath } from './path.ts';
import { encodePem } from './pem.ts';
import { createCertificationRequest, parseCertificationRequest, verifyProofOfPossession } from './request.ts';
import { peculiar } from './test-peculiar.ts';
import { inDays, issueLeaf, makeAuthority, NOW, type TestAuthority } from './test-support.ts';

const run = promisify(execFile);
const KINDS: readonly KeyAlgorithmName[] = [
  'ecdsa-p256-sha256',
  'ecdsa-p384-sha384',
  'ed25519',
  'rsa-2048-sha256',
];
const installed = (program: string) =>
  run(program, ['--version']).then(
    () => true,
    () => false,
  );
const hasCerttool = await installed('certtool');
const hasOpenssl = await run('openssl', ['version']).then(
  () => true,
  () => false,
);
let folder: string;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'virt-trust-pki-'));
});
after(() => rm(folder, { recursive: true, force: true }));

async function save(name: string, text: string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, text);
  return path;
}

const CONSTRAINTS = {
  permitted: [parseNameSubtree('example.com'), parseNameSubtree('10.0.0.0/8'), parseNameSubtree('fd00::/8')],
  excluded: [parseNameSubtree('secret.example.com')],
};

interface Chain {
  readonly authority: TestAuthority;
  readonly leaf: Certificate;
}

async function makeChain(kind: KeyAlgorithmName, at: Instant = NOW): Promise<Chain> {
  const authority = await makeAuthority(kind, CONSTRAINTS, at);
  const validity = { notBefore: inDays(-1, at), notAfter: inDays(180, at) };
  const key = await generatePrivateKey(kind);
  return { authority, leaf: issueLeaf(authority.issuer, 'migration', key, validity) };
}

for (const kind of KINDS) {
  test(`RFC 5280: OpenSSL accepts a ${kind} chain strictly`, {
    skip: !hasOpenssl && 'openssl is not installed',
  }, async () => {
    const { authority, leaf } = await makeChain(kind);
    const args = ['verify', '-x509_strict', '-check_ss_sig', '-attime', String(NOW / 1000)];
    const root = await save(`${kind}-root.pem`, encodeCertificatesPem([authority.root]));
    const issuing = await save(`${kind}-issuing.pem`, encodeCertificatesPem([authority.issuing]));
    const end = await save(`${kind}-leaf.pem`, encodeCertificatesPem([leaf]));
    for (const purpose of ['sslserver', 'sslclient']) {
      const names = ['-verify_hostname', 'host1.example.com'];
      const rest = ['-purpose', purpose, ...names, '-CAfile', root, '-untrusted', issuing, end];
      assert.match((await run('openssl', [...args, ...rest])).stdout, /OK/);
    }
  });

  test(`RFC 5280: GnuTLS accepts a ${kind} chain`, {
    skip: !hasCerttool && 'certtool (gnutls-bin) is not installed',
  }, async () => {
    // certtool judges by the machine's clock and by no other.
    const { authority, leaf } = await makeChain(kind, systemClock.now());
    const ca = await save(`${kind}-ca.pem`, encodeCertificatesPem([authority.issuing, authority.root]));
    const end = await save(`${kind}-end.pem`, encodeCertificatesPem([leaf]));
    for (const host of ['--verify-hostname=host1.example.com', '--verify-purpose=1.3.6.1.5.5.7.3.1']) {
      const args = ['--verify', '--load-ca-certificate', ca, host, '--infile', end];
      assert.match((await run('certtool', args)).stdout, /Verified\./);
    }
  });

  test(`RFC 2986: OpenSSL and we agree on a ${kind} request`, {
    skip: !hasOpenssl && 'openssl is not installed',
  }, async () => {
    const key = await generatePrivateKey(kind);
    const sans = [parseHostName('a.example.com'), parseHostName('10.0.0.1'), parseHostName('fd00::2')];
    const subject = encodeName({ organization: 'o', commonName: 'a.example.com' });
    const ours = createCertificationRequest({ privateKey: key, subject, sans });
    const path = await save(`${kind}-ours.csr`, encodePem('CERTIFICATE REQUEST', ours));
    const seen = await run('openssl', ['req', '-in', path, '-noout', '-verify', '-text']);
    assert.match(seen.stderr + seen.stdout, /verify OK/);
    assert.match(seen.stdout, /DNS:a\.example\.com, IP Address:10\.0\.0\.1, IP Address:FD00:0:0:0:0:0:0:2/);
    const keyPath = await save(`${kind}.key`, encodePrivateKeyPem(key));
    const args = ['req', '-new', '-key', keyPath, '-subj', '/O=x/CN=y', '-outform', 'DER'];
    const added = ['-addext', 'subjectAltName=DNS:a.example.com,IP:10.0.0.1'];
    const { stdout } = await run('openssl', [...args, ...added], { encoding: 'buffer' });
    const theirs = parseCertificationRequest(stdout);
    await verifyProofOfPossession(theirs);
    assert.equal(formatName(theirs.subject), 'CN=y,O=x');
    assert.deepEqual(theirs.names.map(formatGeneralName), ['DNS:a.example.com', 'IP:10.0.0.1']);
  });
}

test('RFC 5280 §4: @peculiar/x509 reads the fields that we wrote', async () => {
  const { authority, leaf } = await makeChain('ecdsa-p256-sha256');
  const theirs = new peculiar.X509Certificate(Uint8Array.from(leaf.der));
  assert.equal(theirs.serialNumber, leaf.serialNumber);
  assert.equal(theirs.notBefore.getTime(), leaf.notBefore);
  assert.equal(theirs.notAfter.getTime(), leaf.notAfter);
  assert.equal(theirs.subject, 'O=virt-trust, CN=host1.example.com');
  const names = theirs.getExtension(peculiar.SubjectAlternativeNameExtension)?.names.items ?? [];
  assert.deepEqual(
    names.map((name) => `${name.type}:${name.value}`),
    ['dns:host1.example.com', 'ip:10.1.2.3', 'ip:fd00::1'],
  );
  const issuer = new peculiar.X509Certificate(Uint8Array.from(authority.issuing.der));
  assert.ok(await theirs.verify({ publicKey: issuer, date: new Date(NOW) }));
});

test('a chain of certtool’s making is read and verified tolerantly', {
  skip: !hasCerttool && 'certtool (gnutls-bin) is not installed',
}, async () => {
  const keyPath = await save(
    'certtool.key',
    encodePrivateKeyPem(await generatePrivateKey('rsa-2048-sha256')),
  );
  const dates = 'activation_date = "2026-11-01 00:00:00 UTC"\nexpiration_date = "2036-11-01 00:00:00 UTC"\n';
  const caInfo = await save('ca.info', `organization = lab\ncn = lab ca\nca\ncert_signing_key\n${dates}`);
  const ca = join(folder, 'certtool-ca.pem');
  await run('certtool', [
    '--generate-self-signed',
    '--load-privkey',
    keyPath,
    '--template',
    caInfo,
    '--outfile',
    ca,
  ]);
  const leafText = `organization = lab\ncn = h\ndns_name = h.example\ntls_www_server\nencryption_key\nsigning_key\n${dates}`;
  const leafInfo = await save('leaf.info', leafText);
  const signing = ['--load-ca-certificate', ca, '--load-ca-privkey', keyPath, '--load-privkey', keyPath];
  const { stdout } = await run('certtool', ['--generate-certificate', ...signing, '--template', leafInfo]);
  const [leaf] = parseCertificates(stdout);
  const anchors = parseCertificates(await readFile(ca, 'utf8'));
  const question = { intermediates: [], anchors, at: inDays(1), purpose: 'serverAuth' } as const;
  assert.ok(leaf !== undefined);
  const path = verifyPath({
    ...question,
    leaf,
    peerName: parseHostName('h.example'),
    conformance: 'tolerant',
  });
  assert.equal(formatName(path.anchor.subject), 'CN=lab ca,O=lab');
  assert.throws(
    () => verifyPath({ ...question, leaf, peerName: parseHostName('other.example') }),
    (error) => isTrustError(error, 'path.peer_name') && describeError(error).includes('DNS:h.example'),
  );
});
