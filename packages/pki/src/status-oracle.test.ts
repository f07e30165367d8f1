import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { systemClock } from '@virt-trust/base/clock.ts';
import { HOUR, type Instant, instant } from '@virt-trust/base/instant.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import type { KeyAlgorithmName } from './algorithms.ts';
import { type Certificate, encodeCertificatesPem, parseCertificates } from './certificate.ts';
import { encodeCrlsPem, parseCrl, parseCrls } from './crl.ts';
import { issueCrl } from './crl-issue.ts';
import type { CrlReason } from './crl-reason.ts';
import { statusInCrl } from './crl-status.ts';
import { encodePrivateKeyPem, generatePrivateKey } from './key.ts';
import { encodeCertId, issuerHashes } from './ocsp-cert-id.ts';
import { prepareOcspSigner, signOcspResponse } from './ocsp-issue.ts';
import { encodeOcspRequest, parseOcspRequest } from './ocsp-request.ts';
import { type OcspCertStatus, parseOcspResponse } from './ocsp-response.ts';
import { statusInOcspResponse } from './ocsp-verify.ts';
import { newSerialNumber } from './serial-number.ts';
import { peculiar } from './test-peculiar.ts';
import { inDays, issueLeaf, makeAuthority, type TestAuthority } from './test-support.ts';

const run = promisify(execFile);
const installed = (program: string, argument: string) =>
  run(program, [argument]).then(
    () => true,
    () => false,
  );
const noGnutls = !(await installed('certtool', '--version')) && 'certtool (gnutls-bin) is not installed';
const noOpenssl = !(await installed('openssl', 'version')) && 'openssl is not installed';
const KINDS: readonly KeyAlgorithmName[] = ['ecdsa-p256-sha256', 'ed25519', 'rsa-2048-sha256'];

// These tools judge by the machine's clock.
const now = instant(Math.floor(systemClock.now() / 1000) * 1000);
let folder: string;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'virt-trust-status-'));
});
after(() => rm(folder, { recursive: true, force: true }));

async function save(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, content);
  return path;
}

interface Fixture {
  readonly authority: TestAuthority;
  readonly good: Certificate;
  readonly revoked: Certificate;
  readonly files: {
    readonly root: string;
    readonly issuing: string;
    readonly bundle: string;
    readonly good: string;
    readonly revoked: string;
  };
}

async function fixture(kind: KeyAlgorithmName): Promise<Fixture> {
  const authority = await makeAuthority(kind, undefined, now);
  const validity = { notBefore: inDays(-1, now), notAfter: inDays(180, now) };
  const leaf = async () => issueLeaf(authority.issuer, 'migration', await generatePrivateKey(kind), validity);
  const good = await leaf();
  const revoked = await leaf();
  const pem = (name: string, ...list: Certificate[]) =>
    save(`${kind}-${name}.pem`, encodeCertificatesPem(list));
  const files = {
    root: await pem('root', authority.root),
    issuing: await pem('issuing', authority.issuing),
    bundle: await pem('bundle', authority.issuing, authority.root),
    good: await pem('good', good),
    revoked: await pem('revoked', revoked),
  };
  return { authority, good, revoked, files };
}

function crlOf({ authority, revoked }: Fixture) {
  const der = issueCrl(authority.issuer, {
    number: 0x1234n,
    thisUpdate: instant(now - HOUR),
    nextUpdate: inDays(7, now),
    entries: [
      {
        serialNumber: revoked.serialNumber,
        revocationDate: inDays(-1, now),
        reason: 'keyCompromise',
        invalidityDate: inDays(-2, now),
      },
      {
        serialNumber: newSerialNumber(systemRandomness),
        revocationDate: inDays(-1, now),
        reason: 'unspecified',
      },
    ],
  });
  return parseCrl(der);
}

/** What a program wrote, whether it succeeded or not. */
async function output(program: string, args: readonly string[]): Promise<string> {
  const done = await run(program, [...args]).catch((error: { stdout: string; stderr: string }) => error);
  return `${done.stdout}\n${done.stderr}`;
}

for (const kind of KINDS) {
  test(`RFC 5280 §5: OpenSSL reads and verifies our ${kind} CRL, and obeys it`, {
    skip: noOpenssl,
  }, async () => {
    const made = await fixture(kind);
    const crl = await save(`${kind}.crl`, encodeCrlsPem([crlOf(made)]));
    const args = ['crl', '-in', crl, '-noout', '-text', '-verify', '-CAfile', made.files.issuing];
    const seen = await output('openssl', args);
    assert.match(seen, /verify OK/);
    assert.match(seen, /X509v3 CRL Number: \s+4660/);
    assert.match(seen, /Key Compromise[\s\S]*Invalidity Date/);
    const chain = ['-CAfile', made.files.root, '-untrusted', made.files.issuing, '-CRLfile', crl];
    const verify = ['verify', '-x509_strict', '-crl_check', ...chain];
    assert.match(await output('openssl', [...verify, made.files.good]), /: OK/);
    assert.match(await output('openssl', [...verify, made.files.revoked]), /certificate revoked/);
  });

  test(`RFC 5280 §5: GnuTLS reads and verifies our ${kind} CRL, and obeys it`, {
    skip: noGnutls,
  }, async () => {
    const made = await fixture(kind);
    const crl = await save(`${kind}-gnutls.crl`, encodeCrlsPem([crlOf(made)]));
    const info = await output('certtool', ['--crl-info', '--infile', crl]);
    assert.match(info, /CRL Number \(not critical\): 1234/);
    assert.match(info, /Revoked certificates \(2\)/);
    const verified = await output('certtool', [
      '--verify-crl',
      '--load-ca-certificate',
      made.files.issuing,
      '--infile',
      crl,
    ]);
    assert.match(verified, /Verified/);
    const args = ['--verify', '--load-ca-certificate', made.files.bundle, '--load-crl', crl, '--infile'];
    assert.match(await output('certtool', [...args, made.files.good]), /Verified\./);
    assert.match(await output('certtool', [...args, made.files.revoked]), /revoked/i);
  });

  for (const hash of ['sha1', 'sha256'] as const) {
    test(`RFC 6960: OpenSSL and GnuTLS verify our ${kind} answers for ${hash} CertIDs`, {
      skip: noOpenssl || noGnutls,
    }, async () => {
      const made = await fixture(kind);
      const { authority } = made;
      const key = await generatePrivateKey(kind);
      const delegate = issueLeaf(authority.issuer, 'ocsp-responder', key, {
        names: [],
        notBefore: inDays(-1, now),
        notAfter: inDays(7, now),
        commonName: 'ocsp responder',
      });
      const signers = {
        delegated: prepareOcspSigner(delegate, key),
        direct: prepareOcspSigner(authority.issuing, authority.issuer.key),
      };
      const hashes = issuerHashes(authority.issuing, hash);
      const statuses: readonly (readonly [Certificate, string, OcspCertStatus])[] = [
        [made.good, made.files.good, { kind: 'good' }],
        [made.revoked, made.files.revoked, { kind: 'revoked', at: inDays(-1, now), reason: 'superseded' }],
        [made.good, made.files.good, { kind: 'unknown' }],
      ];
      for (const [name, signer] of Object.entries(signers)) {
        for (const [certificate, file, status] of statuses) {
          const nonce = systemRandomness.bytes(32);
          const certId = encodeCertId(hashes, certificate.serialNumber);
          const times = { thisUpdate: now, nextUpdate: inDays(1, now) };
          const answers = [{ certId, status, ...times }];
          const der = signOcspResponse(signer, { producedAt: now, answers, nonce });
          const tag = `${kind}-${hash}-${name}-${status.kind}`;
          const response = await save(`${tag}.ocsp`, der);
          const openssl = await output('openssl', [
            ...['ocsp', '-respin', response, '-no_nonce', '-issuer', made.files.issuing, `-${hash}`],
            ...['-cert', file, '-CAfile', made.files.root, '-verify_other', made.files.issuing],
          ]);
          assert.match(openssl, /Response verify OK/, openssl);
          assert.match(openssl, new RegExp(`${file}: ${status.kind}`), openssl);
          if (status.kind === 'revoked') assert.match(openssl, /Reason: superseded/);
          const gnutls = await output('ocsptool', [
            ...['--verify-response', '--infile', response],
            ...['--load-trust', made.files.issuing],
          ]);
          assert.match(gnutls, /Success/, gnutls);
          const seen = statusInOcspResponse(parseOcspResponse(der), certificate, {
            issuer: authority.issuing,
            at: now,
            nonce,
          });
          assert.equal(seen.kind, status.kind);
        }
      }
    });
  }
}

test('RFC 6960 §4.1: requests of OpenSSL and GnuTLS are read, and ours by them', {
  skip: noOpenssl || noGnutls,
}, async () => {
  const made = await fixture('ecdsa-p256-sha256');
  const serial = made.good.serialNumber;
  const theirs = join(folder, 'openssl.req');
  const ids = ['-sha256', '-issuer', made.files.issuing, '-cert', made.files.good];
  await run('openssl', ['ocsp', ...ids, '-sha1', '-cert', made.files.revoked, '-reqout', theirs]);
  const parsed = parseOcspRequest(await readFile(theirs));
  assert.deepEqual(
    parsed.certIds.map(({ hash, serialNumber }) => [hash, serialNumber]),
    [
      ['sha256', serial],
      ['sha1', made.revoked.serialNumber],
    ],
  );
  assert.ok((parsed.nonce?.length ?? 0) >= 16);
  const gnutls = join(folder, 'gnutls.req');
  const files = ['--load-issuer', made.files.issuing, '--load-cert', made.files.good];
  await run('ocsptool', ['--generate-request', ...files, '--outder', '--outfile', gnutls]);
  const other = parseOcspRequest(await readFile(gnutls));
  assert.equal(other.certIds[0]?.serialNumber, serial);
  const certId = encodeCertId(issuerHashes(made.authority.issuing, 'sha1'), serial);
  const ours = await save('ours.req', encodeOcspRequest([certId], systemRandomness.bytes(16)));
  const text = await output('openssl', ['ocsp', '-reqin', ours, '-req_text']);
  assert.match(text, new RegExp(`Serial Number: ${serial}`, 'i'));
  assert.match(await output('ocsptool', ['--request-info', '--infile', ours]), new RegExp(serial, 'i'));
});

test('RFC 6960 §4.2: answers of OpenSSL’s responder are verified', { skip: noOpenssl }, async () => {
  const made = await fixture('ecdsa-p256-sha256');
  const serials = [made.good.serialNumber, made.revoked.serialNumber].map((text) => text.toUpperCase());
  const until = asn1Time(inDays(100, now));
  const index = [
    `V\t${until}\t\t${serials[0]}\tunknown\t/CN=good`,
    `R\t${until}\t${asn1Time(inDays(-1, now))},keyCompromise\t${serials[1]}\tunknown\t/CN=revoked`,
  ];
  const database = await save('index.txt', `${index.join('\n')}\n`);
  const keyPath = await save('issuing.key', encodePrivateKeyPem(made.authority.issuer.key));
  for (const [certificate, expected] of [
    [made.good, 'good'],
    [made.revoked, 'revoked'],
  ] as const) {
    const certId = encodeCertId(issuerHashes(made.authority.issuing, 'sha1'), certificate.serialNumber);
    const request = await save('own.req', encodeOcspRequest([certId]));
    const respout = join(folder, 'theirs.ocsp');
    const ca = ['-CA', made.files.issuing, '-rsigner', made.files.issuing, '-rkey', keyPath];
    await run('openssl', [
      ...['ocsp', '-index', database, ...ca, '-reqin', request, '-respout', respout, '-ndays', '1'],
    ]);
    const status = statusInOcspResponse(parseOcspResponse(await readFile(respout)), certificate, {
      issuer: made.authority.issuing,
      at: instant(systemClock.now()),
    });
    assert.equal(status.kind, expected, JSON.stringify(status));
    if (status.kind === 'revoked') assert.equal(status.reason, 'keyCompromise');
  }
});

function asn1Time(at: Instant): string {
  return `${new Date(at)
    .toISOString()
    .replace(/[-:T]|\.000/g, '')
    .slice(2)}`;
}

test('RFC 5280 §5: CRLs of certtool’s making are read and obeyed', { skip: noGnutls }, async () => {
  const made = await fixture('rsa-2048-sha256');
  const keyPath = await save('certtool-ca.key', encodePrivateKeyPem(made.authority.issuer.key));
  const template = await save('crl.tmpl', 'crl_next_update = 30\ncrl_number = 7\n');
  const ca = ['--load-ca-privkey', keyPath, '--load-ca-certificate', made.files.issuing];
  const args = ['--generate-crl', ...ca, '--load-certificate', made.files.revoked, '--template', template];
  const { stdout } = await run('certtool', args);
  const crls = parseCrls(stdout);
  assert.equal(crls[0]?.extensions.crlNumber, 7n);
  const at = instant(systemClock.now() + 2000);
  const ask = (certificate: Certificate) =>
    statusInCrl({ certificate, issuers: [made.authority.issuing], crls, at }).kind;
  assert.equal(ask(made.revoked), 'revoked');
  assert.equal(ask(made.good), 'good');
});

test('RFC 5280 §5: @peculiar/x509 reads the CRL that we wrote, and we the one that it writes', async () => {
  const made = await fixture('ecdsa-p256-sha256');
  const ours = crlOf(made);
  const theirs = new peculiar.X509Crl(Uint8Array.from(ours.der));
  const issuer = new peculiar.X509Certificate(Uint8Array.from(made.authority.issuing.der));
  assert.ok(await theirs.verify({ publicKey: issuer }));
  assert.equal(theirs.nextUpdate?.getTime(), ours.nextUpdate);
  const found = theirs.findRevoked(made.revoked.serialNumber);
  assert.equal(found?.reason, peculiar.X509CrlReason.keyCompromise);
  assert.equal(theirs.findRevoked(made.good.serialNumber), null);
  const signingKey = await crypto.subtle.importKey(
    'pkcs8',
    Buffer.from(made.authority.issuer.key.export({ type: 'pkcs8', format: 'der' })),
    { name: 'ECDSA', namedCurve: 'P-256' },
    true,
    ['sign'],
  );
  const back = await peculiar.X509CrlGenerator.create({
    issuer: issuer.subject,
    thisUpdate: new Date(now),
    nextUpdate: new Date(inDays(1, now)),
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    signingKey,
    entries: [
      {
        serialNumber: made.revoked.serialNumber,
        revocationDate: new Date(inDays(-1, now)),
        reason: peculiar.X509CrlReason.superseded,
      },
    ],
  });
  const crl = parseCrl(new Uint8Array(back.rawData));
  const [entry] = [...crl.entries];
  assert.equal(entry?.serialNumber, made.revoked.serialNumber);
  assert.equal(entry?.reason, 'superseded' satisfies CrlReason);
  const [certificate] = parseCertificates(encodeCertificatesPem([made.revoked]));
  assert.ok(certificate !== undefined);
  const status = statusInCrl({
    certificate,
    issuers: [made.authority.issuing],
    crls: [crl],
    at: now,
    conformance: 'tolerant',
  });
  assert.equal(
    status.kind,
    'revoked',
    JSON.stringify(status, (_, v) => (typeof v === 'bigint' ? `${v}` : v)),
  );
});
