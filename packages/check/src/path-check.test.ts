import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { instant } from '@virt-trust/base/instant.ts';
import { makeTestCertificate } from '@virt-trust/libvirt/test-certificates.ts';
import fc from 'fast-check';
import { checkPath, type PathQuestion } from './path-check.ts';

const base = await mkdtemp(join(tmpdir(), 'vt-check-'));
after(() => rm(base, { recursive: true, force: true }));

const at = instant(Date.parse('2026-06-01T00:00:00Z'));
const root = await makeTestCertificate({ subject: 'O=x,CN=root', ca: true });
const names = [{ kind: 'dns', value: 'host.example' }] as const;
const server = await makeTestCertificate({ subject: 'O=x,CN=host', issuer: root, names });
let count = 0;

async function directoryOf(files: Readonly<Record<string, string | Uint8Array>>): Promise<string> {
  const directory = join(base, String(count++));
  await mkdir(directory);
  for (const [name, content] of Object.entries(files)) await writeFile(join(directory, name), content);
  return directory;
}

async function check(directory: string, more: Partial<PathQuestion> = {}) {
  const report = await checkPath({
    directory,
    role: 'server',
    at,
    libvirt: '9.0.0',
    qemu: '7.2.22',
    ...more,
  });
  return { verdict: report.verdict, codes: report.findings.map(({ code }) => code), report };
}

const LIBVIRT = { 'cacert.pem': root.pem, 'servercert.pem': server.pem, 'serverkey.pem': server.keyPem };
const QEMU = { 'ca-cert.pem': root.pem, 'server-cert.pem': server.pem, 'server-key.pem': server.keyPem };

test('a good set is ok in both layouts, which the names of the files tell apart', async () => {
  for (const [files, program] of [
    [LIBVIRT, 'libvirt'],
    [QEMU, 'qemu'],
  ] as const) {
    const { verdict, report } = await check(await directoryOf(files));
    assert.equal(verdict, 'ok', JSON.stringify(report));
    assert.deepEqual(
      report.judgedBy.map((each) => each.program),
      [program],
    );
  }
});

test('each finding names its file and what mends it', async () => {
  const stranger = await makeTestCertificate({ subject: 'CN=other' });
  const directory = await directoryOf({ ...LIBVIRT, 'serverkey.pem': stranger.keyPem });
  const { verdict, report } = await check(directory);
  assert.equal(verdict, 'broken');
  const [finding] = report.findings;
  assert.equal(finding?.code, 'key.mismatch');
  assert.equal(finding?.file, join(directory, 'serverkey.pem'));
  assert.match(finding?.remedy ?? '', /serverkey\.pem/);
});

test('an empty directory and one that is not there are broken', async () => {
  assert.equal((await check(await directoryOf({}))).verdict, 'broken');
  assert.deepEqual((await check(join(base, 'nowhere'))).codes, ['directory.missing']);
});

test('a client needs the CA alone, and half an identity is refused from libvirt 10.5 and QEMU 10.2 on', async () => {
  const alone = await directoryOf({ 'cacert.pem': root.pem });
  assert.equal((await check(alone, { role: 'client' })).verdict, 'ok');
  const half = await directoryOf({ 'cacert.pem': root.pem, 'clientkey.pem': server.keyPem });
  assert.equal((await check(half, { role: 'client' })).verdict, 'warning');
  assert.equal((await check(half, { role: 'client', libvirt: '11.3.0' })).verdict, 'broken');
  const qemu = await directoryOf({ 'ca-cert.pem': root.pem, 'client-cert.pem': server.pem });
  assert.equal((await check(qemu, { role: 'client' })).verdict, 'warning');
  assert.equal((await check(qemu, { role: 'client', qemu: '10.2.0' })).verdict, 'broken');
});

test('numbered identities are read by versions that know them, up to the first gap', async () => {
  const old = await makeTestCertificate({
    subject: 'CN=old',
    issuer: root,
    names,
    notAfter: '2026-02-01T00:00:00Z',
  });
  const second = { 'servercert0.pem': old.pem, 'serverkey0.pem': old.keyPem };
  const directory = await directoryOf({ ...LIBVIRT, ...second });
  assert.equal((await check(directory, { libvirt: '11.9.0' })).verdict, 'ok');
  assert.equal((await check(directory, { libvirt: '11.10.0' })).verdict, 'broken');
  const behind = await directoryOf({ ...LIBVIRT, 'servercert1.pem': old.pem, 'serverkey1.pem': old.keyPem });
  assert.equal((await check(behind, { libvirt: '11.10.0' })).verdict, 'ok');
  const numbered = await directoryOf({
    'ca-cert.pem': root.pem,
    'server-cert-0.pem': server.pem,
    'server-key-0.pem': server.keyPem,
  });
  assert.equal((await check(numbered, { qemu: '10.2.0' })).verdict, 'ok');
  assert.equal((await check(numbered)).verdict, 'broken');
});

test('a peer is judged alone: names where a client asks, purposes by libvirt, and DIR needs the CA alone', async () => {
  const directory = await directoryOf({ 'cacert.pem': root.pem });
  const peer = join(directory, 'peer.pem');
  await writeFile(peer, server.pem);
  const verdict = async (more: Partial<PathQuestion>) => (await check(directory, { peer, ...more })).verdict;
  assert.equal(await verdict({ role: 'client' }), 'ok');
  assert.equal(await verdict({ role: 'client', name: 'host.example' }), 'ok');
  assert.equal(await verdict({ role: 'client', name: 'other.example' }), 'broken');
  assert.equal(await verdict({ role: 'server' }), 'ok');
  assert.equal(await verdict({ role: 'client', at: instant(Date.parse('2037-01-01T00:00:00Z')) }), 'broken');
});

test('QEMU’s files are read as its user, who may belong to their group', async () => {
  const directory = await directoryOf(QEMU);
  const user = { name: 'qemu', uid: 12_345, gids: [12_345] };
  assert.equal((await check(directory, { qemuUser: user })).verdict, 'ok');
  await writeFile(join(directory, 'server-key.pem'), server.keyPem);
  const { chmod } = await import('node:fs/promises');
  await chmod(join(directory, 'server-key.pem'), 0o600);
  const own = { ...user, uid: process.getuid?.() ?? 0 };
  assert.deepEqual((await check(directory, { qemuUser: user })).codes, ['files.unreadable']);
  assert.equal((await check(directory, { qemuUser: own })).verdict, 'ok');
});

test('whatever is in the files, there is a verdict', async () => {
  const mutate = fc
    .tuple(fc.nat({ max: 4000 }), fc.uint8Array({ maxLength: 40 }), fc.nat({ max: 60 }))
    .map(([offset, bytes, cut]) => (pem: string) => {
      const whole = Buffer.from(pem);
      return Buffer.concat([whole.subarray(0, offset), bytes, whole.subarray(offset + cut)]);
    });
  const part = fc.constantFrom('cacert.pem', 'cacrl.pem', 'servercert.pem', 'serverkey.pem');
  const directory = await directoryOf(LIBVIRT);
  const originals: Readonly<Record<string, string>> = {
    ...LIBVIRT,
    'cacrl.pem': root.pem.replaceAll('CERTIFICATE', 'X509 CRL'),
  };
  await fc.assert(
    fc.asyncProperty(part, mutate, async (name, change) => {
      await writeFile(join(directory, name), change(originals[name] ?? ''));
      const { verdict } = await check(directory);
      assert.ok(['ok', 'warning', 'broken'].includes(verdict));
      const peer = join(directory, name);
      assert.ok((await check(directory, { role: 'client', peer })).verdict);
      if (name === 'cacrl.pem') await rm(join(directory, name));
      else await writeFile(join(directory, name), originals[name] ?? '');
    }),
    { numRuns: 150 },
  );
});

test('files as under /etc/pki are judged where they are', async () => {
  const directory = await directoryOf({});
  await mkdir(join(directory, 'CA'));
  await mkdir(join(directory, 'libvirt', 'private'), { recursive: true });
  await writeFile(join(directory, 'CA', 'cacert.pem'), root.pem);
  await writeFile(join(directory, 'libvirt', 'servercert.pem'), server.pem);
  const { codes, report } = await check(directory);
  assert.deepEqual(codes, ['files.missing']);
  assert.equal(report.findings[0]?.file, join(directory, 'libvirt', 'private', 'serverkey.pem'));
  await writeFile(join(directory, 'libvirt', 'private', 'serverkey.pem'), server.keyPem);
  assert.equal((await check(directory)).verdict, 'ok');
});

test('a CRL or DH parameters of the other program do not make a directory one of its own', async () => {
  const directory = await directoryOf({ ...LIBVIRT, 'dh-params.pem': 'x', 'ca-crl.pem': 'x' });
  const { verdict, report } = await check(directory);
  assert.equal(verdict, 'ok', JSON.stringify(report));
  assert.deepEqual(
    report.judgedBy.map(({ program }) => program),
    ['libvirt'],
  );
});

test('a file in place of the directory is told from none', async () => {
  const directory = await directoryOf(LIBVIRT);
  const { verdict, report } = await check(join(directory, 'cacert.pem'));
  assert.equal(verdict, 'broken');
  assert.match(report.findings[0]?.text ?? '', /a file, not a directory/);
});
