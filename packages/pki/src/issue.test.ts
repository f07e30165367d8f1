import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { before, test } from 'node:test';
import { isTrustError, type TrustError } from '@virt-trust/base/error.ts';
import { NEVER } from '@virt-trust/base/instant.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { parseCertificate } from './certificate.ts';
import { prepareIssuer } from './certificate-issue.ts';
import { OID } from './der/oid.ts';
import { parseHostName } from './general-name.ts';
import {
  encodePrivateKeyPem,
  generatePrivateKey,
  keyMatchesCertificate,
  parsePrivateKeyPem,
  spkiOfKey,
} from './key.ts';
import type { LintFinding } from './lint.ts';
import { formatName, nameAttribute } from './name.ts';
import { parseNameSubtree } from './name-constraints.ts';
import { newSerialNumber, parseSerialNumber } from './serial-number.ts';
import { inDays, issueLeaf, makeAuthority, NOW, type TestAuthority } from './test-support.ts';
import { encodeWrapperCertificate } from './wrapper.ts';

let authority: TestAuthority;
before(async () => {
  authority = await makeAuthority();
});

/** Expects lint to refuse with this finding. */
function refusedFor(code: string) {
  return (error: unknown) => {
    assert.ok(isTrustError(error, 'certificate.lint'), String(error));
    const { findings } = (error as TrustError<{ findings: LintFinding[] }>).context;
    assert.ok(
      findings.some((finding) => finding.code === code),
      JSON.stringify(findings),
    );
    return true;
  };
}

test('an EC leaf has a keyUsage that is not critical and lacks keyEncipherment', async () => {
  const leaf = issueLeaf(authority.issuer, 'migration', await generatePrivateKey('ecdsa-p256-sha256'));
  assert.deepEqual(leaf.extensions.keyUsage, { critical: false, usages: ['digitalSignature'] });
  assert.deepEqual(leaf.extensions.extKeyUsage?.purposes, [OID.serverAuth, OID.clientAuth]);
  assert.equal(leaf.extensions.basicConstraints?.ca, false);
  assert.equal(nameAttribute(leaf.subject, OID.organizationName), 'virt-trust');
});

test('an RSA leaf has a critical keyUsage with both bits', async () => {
  const leaf = issueLeaf(authority.issuer, 'libvirt-server', await generatePrivateKey('rsa-2048-sha256'));
  assert.deepEqual(leaf.extensions.keyUsage, {
    critical: true,
    usages: ['digitalSignature', 'keyEncipherment'],
  });
});

test('RFC 5280 §4.2.1.1: the authority key identifier is that of the issuer', async () => {
  const leaf = issueLeaf(authority.issuer, 'vnc-server', await generatePrivateKey('ed25519'));
  assert.deepEqual(
    Buffer.from(leaf.extensions.authorityKeyIdentifier?.keyIdentifier ?? []),
    Buffer.from(authority.issuing.extensions.subjectKeyIdentifier?.keyIdentifier ?? [1]),
  );
});

test('a server certificate without a name is refused, a client one is not', async () => {
  const key = await generatePrivateKey('ecdsa-p256-sha256');
  assert.throws(
    () => issueLeaf(authority.issuer, 'libvirt-server', key, { names: [] }),
    refusedFor('name_missing'),
  );
  assert.equal(
    issueLeaf(authority.issuer, 'libvirt-client', key, { names: [] }).extensions.subjectAltName,
    undefined,
  );
});

test('RFC 5280 §6.1.3: a validity outside that of the authority, or reversed, is refused', async () => {
  const key = await generatePrivateKey('ecdsa-p256-sha256');
  const issue = (notBefore: number, notAfter: number) => () =>
    issueLeaf(authority.issuer, 'migration', key, {
      notBefore: inDays(notBefore),
      notAfter: inDays(notAfter),
    });
  assert.throws(issue(-1, 365 * 30), refusedFor('validity_outside_issuer'));
  assert.throws(issue(-30, 10), refusedFor('validity_outside_issuer'));
  assert.throws(issue(10, 5), refusedFor('validity_reversed'));
});

test('RFC 5280 §4.2.1.10: names outside the authority’s name constraints are refused', async () => {
  const constrained = await makeAuthority('ecdsa-p256-sha256', {
    permitted: [
      parseNameSubtree('example.com'),
      parseNameSubtree('10.0.0.0/8'),
      parseNameSubtree('fd00::/8'),
    ],
    excluded: [parseNameSubtree('secret.example.com')],
  });
  const key = await generatePrivateKey('ecdsa-p256-sha256');
  issueLeaf(constrained.issuer, 'migration', key);
  for (const name of ['host.example.org', '192.0.2.1', '2001:db8::1', 'a.secret.example.com']) {
    const names = [parseHostName(name)];
    assert.throws(
      () => issueLeaf(constrained.issuer, 'migration', key, { names }),
      refusedFor('name_constraints'),
      name,
    );
  }
});

test('malformed names, addresses as DNS names, and long or bad common names are refused', async () => {
  const key = await generatePrivateKey('ecdsa-p256-sha256');
  const issue = (fields: Parameters<typeof issueLeaf>[3]) => () =>
    issueLeaf(authority.issuer, 'migration', key, fields);
  assert.throws(issue({ names: [{ kind: 'dns', value: '10.0.0.1' }] }), refusedFor('address_as_dns'));
  assert.throws(issue({ names: [{ kind: 'dns', value: '*.example.com' }] }), refusedFor('dns_malformed'));
  assert.throws(issue({ commonName: 'x'.repeat(65) }), refusedFor('common_name_long'));
  assert.throws(issue({ commonName: 'a\nb' }), refusedFor('common_name_control'));
  assert.throws(issue({ serialNumber: parseSerialNumber('01') }), refusedFor('serial_short'));
  for (const text of ['$(reboot)', 'a b', '', '-x', '1.2.3', 'a..b', '1.2.3.4.5']) {
    assert.throws(
      () => parseHostName(text),
      (error) => isTrustError(error, 'name.value_malformed'),
      text,
    );
  }
});

test('an issuer needs the key of its certificate, and a certificate of an authority', async () => {
  const key = await generatePrivateKey('ecdsa-p256-sha256');
  assert.throws(
    () => prepareIssuer({ certificate: authority.root, key }),
    (error) => isTrustError(error, 'issuer.key_mismatch'),
  );
  const leaf = issueLeaf(authority.issuer, 'migration', key);
  assert.throws(
    () => prepareIssuer({ certificate: leaf, key }),
    (error) => isTrustError(error, 'issuer.not_authority'),
  );
});

test('RFC 5280 §4.1.2.2: serial numbers are positive, of 17 octets and all different', () => {
  const serials = new Set(Array.from({ length: 1000 }, () => newSerialNumber(systemRandomness)));
  assert.equal(serials.size, 1000);
  for (const serial of serials) assert.match(serial, /^[4-7][0-9a-f]{33}$/);
});

test('private keys of each kind come back from their PEM and belong to their certificate', async () => {
  for (const name of ['ecdsa-p256-sha256', 'ecdsa-p384-sha384', 'ed25519', 'rsa-2048-sha256'] as const) {
    const key = await generatePrivateKey(name);
    const again = parsePrivateKeyPem(encodePrivateKeyPem(key));
    const leaf = issueLeaf(authority.issuer, 'migration', key);
    assert.ok(keyMatchesCertificate(again, leaf), name);
    assert.ok(!keyMatchesCertificate(authority.issuer.key, leaf), name);
    const traditional = name === 'ed25519' ? undefined : name.startsWith('rsa') ? 'pkcs1' : 'sec1';
    if (traditional !== undefined) {
      const pem = key.export({ type: traditional, format: 'pem' }).toString();
      assert.ok(keyMatchesCertificate(parsePrivateKeyPem(`some text\n${pem}`), leaf), name);
    }
    const sealed = key.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' });
    assert.throws(() => parsePrivateKeyPem(sealed.toString()), /it has a password/);
  }
});

test('RFC 5280 §4.1.2.5: the wrapper certificate never expires and verifies by its own key', async () => {
  const key = await generatePrivateKey('ecdsa-p256-sha256');
  const der = encodeWrapperCertificate({ key, subjectCommonName: 'agent', randomness: systemRandomness });
  const wrapper = parseCertificate(der);
  assert.equal(wrapper.notAfter, NEVER);
  assert.ok(wrapper.notBefore < NOW);
  assert.equal(formatName(wrapper.subject), 'CN=agent');
  assert.ok(keyMatchesCertificate(key, wrapper));
  const theirs = new X509Certificate(der);
  assert.ok(theirs.verify(theirs.publicKey));
  assert.equal(Buffer.compare(spkiOfKey(key), wrapper.spki), 0);
});
