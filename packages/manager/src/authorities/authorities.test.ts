import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { isTrustError } from '@virt-trust/base/error.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { PURPOSES } from '@virt-trust/contract/model/service.ts';
import { encodeTbs, type PreparedCertificate } from '@virt-trust/pki/certificate-issue.ts';
import { encodeSigned } from '@virt-trust/pki/extension-encode.ts';
import { parseHostName } from '@virt-trust/pki/general-name.ts';
import { generatePrivateKey, spkiOfKey } from '@virt-trust/pki/key.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { LEAF_PROFILES } from '@virt-trust/pki/profiles.ts';
import { newSerialNumber } from '@virt-trust/pki/serial-number.ts';
import { issuanceOn, NO_CONSTRAINTS, requestOfKvm2, requestPem } from '../issuance/fixtures.ts';
import { temporaryDirectory, temporaryStore } from '../store/fixtures.ts';
import type { Authorities } from './authorities.ts';

const OPENSSL = ['verify', '-x509_strict', '-purpose'];
const CHAIN = ['-CAfile', 'root.pem', '-untrusted', 'issuing.pem', 'leaf.pem'];
const CERTTOOL = ['--verify', '--load-ca-certificate', 'bundle.pem', '--infile', 'leaf.pem'];

test('The first start makes root and issuing CA for each purpose; the second finds the same.', async (t) => {
  const { database } = temporaryStore(t, systemClock);
  const first = await issuanceOn(database, systemClock);
  const second = await issuanceOn(database, systemClock);
  for (const purpose of PURPOSES) {
    const { issuing, root, organization } = first.authorities.byPurpose(purpose);
    assert.equal(organization, 'virt-trust');
    assert.equal(issuing.extensions.basicConstraints?.pathLenConstraint, 0);
    assert.equal(root.extensions.basicConstraints?.pathLenConstraint, 1);
    assert.equal(second.authorities.bundle(purpose), first.authorities.bundle(purpose));
  }
  assert.equal(
    new Set(PURPOSES.map((one) => first.authorities.byPurpose(one).issuing.pin)).size,
    PURPOSES.length,
  );
  const made = (await first.audit.list(0, 10)).filter(({ action }) => action === 'authority.create');
  assert.deepEqual(made.map(({ subject }) => subject).sort(), [...PURPOSES].sort());
});

test('An unknown authority is named in the error.', async (t) => {
  const { database } = temporaryStore(t, systemClock);
  const { authorities } = await issuanceOn(database, systemClock);
  assert.throws(
    () => authorities.byName('elsewhere'),
    (error) => isTrustError(error, 'authority.unknown'),
  );
});

test('When making them fails half way, no authority is there, and the next start makes all.', async (t) => {
  const { database } = temporaryStore(t, systemClock);
  database.script(
    "create trigger stop before insert on authorities when new.name = 'console' begin select raise(abort, 'stop'); end",
  );
  await assert.rejects(issuanceOn(database, systemClock), (error) => isTrustError(error, 'store.constraint'));
  assert.deepEqual(database.all('select name from authorities'), []);
  assert.deepEqual(database.all("select * from audit where action = 'authority.create'"), []);
  database.script('drop trigger stop');
  const { authorities } = await issuanceOn(database, systemClock);
  assert.equal(authorities.list().length, PURPOSES.length);
});

test('A store that lacks the authority of a purpose gets it, like the ones that it has, which stay.', async (t) => {
  const { database } = temporaryStore(t, systemClock);
  const constraints = { dns: ['example.com'], subnets: ['10.0.0.0/8'] };
  const first = await issuanceOn(database, systemClock, { constraints });
  database.run("delete from authorities where name = 'storage'");
  const second = await issuanceOn(database, systemClock, { constraints: NO_CONSTRAINTS });
  const [control, storage] = [
    second.authorities.byPurpose('control'),
    second.authorities.byPurpose('storage'),
  ];
  assert.equal(second.authorities.bundle('control'), first.authorities.bundle('control'));
  assert.notEqual(storage.issuing.pin, first.authorities.byPurpose('storage').issuing.pin);
  assert.deepEqual(storage.issuing.extensions.nameConstraints, control.issuing.extensions.nameConstraints);
  assert.notEqual(storage.issuing.extensions.nameConstraints, undefined);
  const made = (await second.audit.list(0, 20)).filter(({ action }) => action === 'authority.create');
  assert.deepEqual(made.map(({ subject }) => subject).sort(), [...PURPOSES, 'storage'].sort());
  const third = await issuanceOn(database, systemClock);
  assert.equal(third.authorities.bundle('storage'), second.authorities.bundle('storage'));
});

test('Private keys are in the database only sealed, each bound to its place.', async (t) => {
  const { database } = temporaryStore(t, systemClock);
  await issuanceOn(database, systemClock);
  const rows = database.all('select * from authorities');
  for (const row of rows) {
    for (const column of ['sealed_root_key', 'sealed_issuing_key']) {
      // The DER of an EC private key names its curve; ciphertext does not.
      const curve = Buffer.from('06082a8648ce3d030107', 'hex');
      assert.equal(Buffer.from(row[column] as Uint8Array).indexOf(curve), -1);
    }
  }
  database.run("update authorities set sealed_issuing_key = sealed_root_key where name = 'control'");
  await assert.rejects(issuanceOn(database, systemClock), (error) => isTrustError(error, 'seal.broken'));
});

test('RFC 5280 §4.2.1.10: constraints go on the issuing CA, critical, and OpenSSL and GnuTLS hold certificates to them.', async (t) => {
  const directory = temporaryDirectory(t);
  const run = (program: string, ...args: string[]) =>
    execFileSync(program, args, { cwd: directory, encoding: 'utf8', stdio: 'pipe' });
  const verify = (authorities: Authorities, pem: string, usage: string) => {
    const { root, issuing } = authorities.byPurpose('control');
    writeFileSync(join(directory, 'root.pem'), encodePem('CERTIFICATE', root.der));
    writeFileSync(join(directory, 'issuing.pem'), encodePem('CERTIFICATE', issuing.der));
    writeFileSync(join(directory, 'bundle.pem'), authorities.bundle('control'));
    writeFileSync(join(directory, 'leaf.pem'), pem);
    run('openssl', ...OPENSSL, usage, ...CHAIN);
    run('certtool', ...CERTTOOL);
  };
  const constraints = { dns: ['kvm1.example'], subnets: ['10.0.0.0/24', 'fd00::/64'] };
  const { database } = temporaryStore(t, systemClock);
  const { authorities, issuance } = await issuanceOn(database, systemClock, { constraints });
  assert.equal(authorities.byPurpose('control').issuing.extensions.nameConstraints?.critical, true);
  const inside = await issuance.issueForHost({
    host: 'kvm1',
    service: 'libvirt',
    csr: await requestPem(),
    actor: 'test',
  });
  verify(authorities, inside.pem, 'sslserver');
  const client = await issuance.issueClient({
    csr: await requestPem({ commonName: 'virt-trust migration 1', names: [] }),
    commonName: 'virt-trust migration 1',
    minutes: 5,
    actor: 'test',
  });
  verify(authorities, client.pem, 'sslclient');
  await assert.rejects(
    issuance.issueForHost({ host: 'kvm2', service: 'libvirt', csr: await requestOfKvm2(), actor: 'test' }),
    (error) => isTrustError(error, 'certificate.lint') && /name constraints/.test(error.message),
  );
  // Past lint, as somebody with the issuing key would.
  const authority = authorities.byPurpose('control');
  for (const outside of ['kvm2.example', '10.0.1.1', 'fd01::1']) {
    const template = authority.template(LEAF_PROFILES['libvirt-server']);
    const tbs = encodeTbs(template, {
      serialNumber: newSerialNumber(systemRandomness),
      commonName: 'x',
      names: [parseHostName(outside)],
      notBefore: authority.issuing.notBefore,
      notAfter: authority.issuing.notAfter,
      publicKey: spkiOfKey(await generatePrivateKey('ecdsa-p256-sha256')),
    });
    const signature = await authority.sign({ tbs } as PreparedCertificate);
    const der = encodeSigned(tbs, template.issuer.signatureAlgorithm.identifier, signature);
    writeFileSync(join(directory, 'leaf.pem'), encodePem('CERTIFICATE', der));
    assert.throws(() => run('openssl', ...OPENSSL, 'sslserver', ...CHAIN), /permitted subtree violation/);
    assert.throws(() => run('certtool', ...CERTTOOL), /Command failed/);
  }
});

test('A constraint that is none stops the first start and leaves nothing behind.', async (t) => {
  const { database } = temporaryStore(t, systemClock);
  const constraints = { ...NO_CONSTRAINTS, subnets: ['10.0.0.0/33'] };
  await assert.rejects(issuanceOn(database, systemClock, { constraints }), (error) =>
    isTrustError(error, 'name.constraint_malformed'),
  );
  assert.deepEqual(database.all('select name from authorities'), []);
});
