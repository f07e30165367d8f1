import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { DAY, instant } from '@virt-trust/base/instant.ts';
import { encodeCertificatesPem } from '@virt-trust/pki/certificate.ts';
import { encodeCrlsPem, parseCrls } from '@virt-trust/pki/crl.ts';
import { issueCrl } from '@virt-trust/pki/crl-issue.ts';
import type { SerialNumber } from '@virt-trust/pki/serial-number.ts';
import { makeAuthority, type TestAuthority } from '@virt-trust/pki/test-support.ts';
import { planCrlFile } from './crl-install.ts';
import { Shell } from './fixtures.ts';

const NOW = instant(Math.floor(Date.now() / 1000) * 1000);
const ours = await makeAuthority('ecdsa-p256-sha256', undefined, NOW);
/** Another issuer, by another name. */
const theirs = { issuer: (await makeAuthority('ecdsa-p256-sha256', undefined, NOW)).rootIssuer };

function crlOf({ issuer }: Pick<TestAuthority, 'issuer'>, number: number, age = 0): Uint8Array {
  return issueCrl(issuer, {
    number: BigInt(number),
    thisUpdate: instant(NOW - age),
    nextUpdate: instant(NOW - age + 7 * DAY),
    entries: [{ serialNumber: '4101' as SerialNumber, revocationDate: NOW, reason: 'keyCompromise' }],
  });
}

const pemOf = (...ders: Uint8Array[]) => encodeCrlsPem(ders.map((der) => ({ der })));
const authorities = [ours.issuing];

function plan(fetched: Uint8Array | string, present: string | null) {
  return planCrlFile({ fetched: Buffer.from(fetched), authorities, present, path: 'cacrl.pem', now: NOW });
}

const refused = (code: string) => (error: unknown) => isTrustError(error, code);

test('a CRL goes in beside those of other issuers and in place of its own former one', () => {
  const first = crlOf(ours, 1);
  assert.equal(plan(first, null).text, pemOf(first));
  const [former, other, newer] = [crlOf(ours, 1), crlOf(theirs, 9), crlOf(ours, 2)];
  const { text, others } = plan(newer, pemOf(former, other));
  assert.equal(others, 1);
  assert.deepEqual(
    parseCrls(text ?? '').map(({ extensions }) => extensions.crlNumber),
    [9n, 2n],
  );
  assert.equal(plan(newer, text).text, null);
});

test('an older one, another one with the same number, a forged one and one that is over are refused', () => {
  const present = pemOf(crlOf(ours, 5));
  assert.throws(() => plan(crlOf(ours, 4), present), refused('crl.older'));
  assert.throws(() => plan(crlOf(ours, 5, DAY), present), refused('crl.older'));
  assert.throws(() => plan(crlOf(theirs, 6), present), refused('crl.issuer_unknown'));
  assert.throws(() => plan(crlOf(ours, 6, 8 * DAY), present), refused('crl.stale'));
  const forged = Buffer.from(crlOf(ours, 6));
  forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1;
  assert.throws(
    () => plan(forged, present),
    (error) => isTrustError(error) && /^(crl|der)\./.test(error.code),
  );
  assert.throws(() => plan(pemOf(crlOf(ours, 6), crlOf(ours, 7)), present), refused('crl.several'));
});

test('a forged one in the file with a great number keeps no true one out, and a file that cannot be read is not lost', () => {
  const forged = Buffer.from(crlOf(ours, 0xffffff));
  forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1;
  assert.deepEqual(
    parseCrls(plan(crlOf(ours, 6), pemOf(forged)).text ?? '').map(({ extensions }) => extensions.crlNumber),
    [6n],
  );
  assert.throws(() => plan(crlOf(ours, 6), 'nonsense'), refused('crl.file_unreadable'));
});

test('the command fetches, verifies and installs below the home directory, and says what it did', async () => {
  const shell = new Shell();
  after(() => shell.remove());
  const served = { der: crlOf(ours, 10) };
  const server = createServer((request, response) => {
    if (request.url === '/crl/control.crl') response.end(served.der);
    else response.writeHead(404).end();
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  after(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/crl`;
  writeFileSync(join(shell.home, 'ca.pem'), encodeCertificatesPem(authorities));
  const run = (more: string) => shell.run(`virt-trust crl install --user --ca ca.pem ${more}`);
  const first = await run(`--url ${url}/control.crl`);
  assert.match(first.output, /cacrl\.pem has now the CRL of CN=.*, number a, 1 entry, until /);
  const directory = join(shell.home, '.pki/libvirt');
  assert.deepEqual(readdirSync(directory), ['cacrl.pem']);
  assert.equal(readFileSync(join(directory, 'cacrl.pem'), 'utf8'), pemOf(served.der));
  assert.match((await run(`--url ${url}/control.crl`)).output, /had already/);
  served.der = crlOf(ours, 9);
  const older = await run(`--url ${url}/control.crl`);
  assert.equal(older.code, 4);
  assert.match(older.output, /error: cannot install the CRL .* number 9: .* holds number a\nhint: /);
  const missing = await run(`--url ${url}/other.crl`);
  assert.deepEqual([missing.code, /the server answers 404/.test(missing.output)], [6, true]);
  assert.equal((await run('--file crl.pem')).code, 2);
  assert.equal((await run('')).code, 2);
  writeFileSync(join(shell.home, 'crl.pem'), pemOf(crlOf(ours, 11)));
  const json = await run('--file crl.pem --json');
  assert.deepEqual([json.code, JSON.parse(json.output).number], [0, 'b']);
});

test('a link, as an agent makes it, is left to the agent', async () => {
  const shell = new Shell();
  after(() => shell.remove());
  const directory = join(shell.home, '.pki/libvirt');
  mkdirSync(directory, { recursive: true });
  symlinkSync('/nowhere', join(directory, 'cacrl.pem'));
  writeFileSync(join(shell.home, 'ca.pem'), encodeCertificatesPem(authorities));
  writeFileSync(join(shell.home, 'crl.pem'), pemOf(crlOf(ours, 1)));
  const { code, output } = await shell.run('virt-trust crl install --user --ca ca.pem --file crl.pem');
  assert.equal(code, 4);
  assert.match(output, /it is a link, as an agent makes it/);
});
