import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseInstant } from '@virt-trust/base/instant.ts';
import type { Checker } from './checker.ts';
import { checkOwnFiles } from './sanity.ts';
import { makeTestCertificate, type TestIdentity } from './test-certificates.ts';

const at = parseInstant('2026-06-01T00:00:00Z');
const LIBVIRT_9 = { program: 'libvirt', version: '9.0.0' } as const;
const root = await makeTestCertificate({ subject: 'O=x,CN=root', ca: true });
const expiredRoot = await makeTestCertificate({
  subject: 'CN=old',
  ca: true,
  notAfter: '2026-02-01T00:00:00Z',
});

function check(
  leaf: TestIdentity | undefined,
  authorities: readonly TestIdentity[],
  checker: Checker = LIBVIRT_9,
  more: readonly TestIdentity[] = [],
): string[] {
  const findings = checkOwnFiles({
    role: 'server',
    caCertificates: authorities.map(({ certificate }) => certificate),
    certificates: [...(leaf === undefined ? [] : [leaf]), ...more].map(({ certificate }) => certificate),
    at,
    checker,
  });
  return findings.map(({ severity, code }) => `${severity} ${code}`);
}

test('keyEncipherment in a critical keyUsage of an EC key is demanded up to libvirt 11.5 and QEMU before 10.2 and its stable branches', async () => {
  const keyUsage = { usages: ['digitalSignature'], critical: true } as const;
  const leaf = await makeTestCertificate({ subject: 'CN=h', issuer: root, keyUsage });
  const judge = (program: Checker['program'], version: string) => check(leaf, [root], { program, version });
  const refused = ['error certificate.key_encipherment'];
  assert.deepEqual(judge('libvirt', '9.0.0'), refused);
  assert.deepEqual(judge('libvirt', '11.5.0'), refused);
  assert.deepEqual(judge('libvirt', '11.6.0'), []);
  assert.deepEqual(judge('libvirt', '12.0.0'), []);
  for (const version of ['7.2.21', '8.2.10', '10.0.6', '10.1.2', '9.2.0'])
    assert.deepEqual(judge('qemu', version), refused, version);
  for (const version of ['7.2.22', '10.0.7', '10.1.3', '10.2.0', '11.0.0'])
    assert.deepEqual(judge('qemu', version), [], version);
  for (const version of ['7.2', '10.0', '10.1'])
    assert.deepEqual(judge('qemu', version), ['warning certificate.key_encipherment'], version);
  assert.deepEqual(judge('qemu', '9.2'), refused);
  assert.deepEqual(judge('libvirt', 'unknown'), refused);
});

test('what we issue, an EC key with digitalSignature not critical, is a note only', async () => {
  const keyUsage = { usages: ['digitalSignature'], critical: false } as const;
  const leaf = await makeTestCertificate({ subject: 'CN=h', issuer: root, keyUsage });
  assert.deepEqual(check(leaf, [root]), ['note certificate.key_encipherment']);
});

test('an RSA key goes on needing keyEncipherment with libvirt 11.6', async () => {
  const keyUsage = { usages: ['digitalSignature'], critical: true } as const;
  const leaf = await makeTestCertificate({ subject: 'CN=h', issuer: root, keyUsage, key: 'rsa' });
  const findings = check(leaf, [root], { program: 'libvirt', version: '11.6.0' });
  assert.deepEqual(findings, ['error certificate.key_encipherment']);
});

test('one expired authority in the file blocks libvirt and older QEMU, but not QEMU 10.2', async () => {
  const leaf = await makeTestCertificate({ subject: 'CN=h', issuer: root });
  assert.deepEqual(check(leaf, [root, expiredRoot]), ['error certificate.expired']);
  const qemu = (version: string) => check(leaf, [root, expiredRoot], { program: 'qemu', version });
  assert.deepEqual(qemu('10.1.0'), ['error certificate.expired']);
  assert.deepEqual(qemu('10.2.0'), []);
});

test('libvirt and QEMU look for intermediates in the CA file alone, QEMU 10.2 also behind the leaf', async () => {
  const issuing = await makeTestCertificate({ subject: 'CN=issuing', issuer: root, ca: true });
  const leaf = await makeTestCertificate({ subject: 'CN=h', issuer: issuing });
  assert.deepEqual(check(leaf, [root], LIBVIRT_9, [issuing]), ['error chain.issuer_unknown']);
  assert.deepEqual(check(leaf, [root, issuing]), []);
  assert.deepEqual(check(leaf, [issuing]), []);
  const qemu = (version: string) => check(leaf, [root], { program: 'qemu', version }, [issuing]);
  assert.deepEqual(qemu('7.2.22'), ['error chain.issuer_unknown']);
  assert.deepEqual(qemu('10.2.0'), []);
});

test('purposes other than those of TLS allow both ends, anyExtendedKeyUsage none, as libvirt reads them', async () => {
  const judge = async (critical: boolean, ...oids: string[]) =>
    check(await makeTestCertificate({ subject: 'CN=h', issuer: root, purposes: { oids, critical } }), [root]);
  assert.deepEqual(await judge(true, '1.3.6.1.5.5.7.3.3'), []);
  assert.deepEqual(await judge(true, '2.5.29.37.0'), ['error certificate.purpose']);
  assert.deepEqual(await judge(false, '1.3.6.1.5.5.7.3.2'), ['warning certificate.purpose']);
});

test('empty and overfull files are named', async () => {
  const leaf = await makeTestCertificate({ subject: 'CN=h', issuer: root });
  assert.deepEqual(check(undefined, []), ['error files.missing', 'error files.missing']);
  assert.deepEqual(check(leaf, Array(17).fill(root)), ['warning files.too_many']);
  const long = await makeTestCertificate({
    subject: 'CN=h',
    issuer: root,
    names: Array.from({ length: 2200 }, (_, index) => ({
      kind: 'dns',
      value: `host-${index}.cluster.example.com`,
    })),
  });
  assert.deepEqual(check(long, [root]), ['error files.too_large']);
});

test("a leaf that is an authority's, and an authority that is none, are named", async () => {
  const leaf = await makeTestCertificate({ subject: 'CN=h', issuer: root, ca: true });
  assert.deepEqual(check(leaf, [root]), ['error certificate.is_authority']);
  const plain = await makeTestCertificate({ subject: 'CN=plain' });
  const below = await makeTestCertificate({ subject: 'CN=h', issuer: plain });
  assert.ok(check(below, [plain]).includes('error certificate.not_authority'));
});
