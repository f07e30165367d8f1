import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { type Certificate, parseCertificate } from './certificate.ts';
import { parseHostName } from './general-name.ts';
import { generatePrivateKey } from './key.ts';
import { verifyPath } from './path.ts';
import { inDays, issueLeaf, makeAuthority, NOW, type TestAuthority } from './test-support.ts';

let authority: TestAuthority;
let other: TestAuthority;
let leaf: Certificate;

before(async () => {
  authority = await makeAuthority();
  other = await makeAuthority();
  leaf = issueLeaf(authority.issuer, 'libvirt-server', await generatePrivateKey('ecdsa-p256-sha256'));
});

function question(parts: Partial<Parameters<typeof verifyPath>[0]> = {}) {
  const { root, issuing } = authority;
  return {
    leaf,
    intermediates: [issuing],
    anchors: [root],
    at: NOW,
    purpose: 'serverAuth',
    ...parts,
  } as const;
}

function refuses(code: string, parts: Partial<Parameters<typeof verifyPath>[0]>): void {
  assert.throws(
    () => verifyPath(question(parts)),
    (error) => {
      assert.ok(isTrustError(error, code), String(error));
      return true;
    },
  );
}

test('RFC 5280 §6: the evidence is the path, anchor first', () => {
  const path = verifyPath(question({ peerName: parseHostName('10.1.2.3') }));
  assert.deepEqual(path.certificates, [authority.root, authority.issuing, leaf]);
  assert.equal(path.anchor, authority.root);
  assert.equal(
    verifyPath(question({ anchors: [authority.issuing], intermediates: [] })).certificates.length,
    2,
  );
});

test('RFC 5280 §6: another authority of the same name is not taken for the issuer', () => {
  refuses('path.signature', { anchors: [other.issuing], intermediates: [] });
  refuses('path.signature', { anchors: [other.root] });
  refuses('path.no_issuer', { intermediates: [] });
  const both = [other.issuing, authority.issuing];
  assert.equal(
    verifyPath(question({ intermediates: both, anchors: [other.root, authority.root] })).anchor,
    authority.root,
  );
});

test('RFC 5280 §4.1.2.5: dates are refused with both times, those of authorities too', () => {
  refuses('path.expired', { at: inDays(181) });
  refuses('path.not_yet_valid', { at: inDays(-2) });
  refuses('path.expired', { at: inDays(365 * 21) });
  try {
    verifyPath(question({ at: inDays(181) }));
  } catch (error) {
    assert.ok(isTrustError(error));
    assert.equal(error.context['notAfter'], '2027-05-21T04:00:00Z');
    assert.equal(error.context['at'], '2027-05-22T04:00:00Z');
  }
});

test('RFC 5280 §4.2.1.12: a server certificate is not a client’s', () => {
  refuses('path.purpose', { purpose: 'clientAuth' });
});

test('RFC 9525 §6: names are compared as a whole, the common name never', async () => {
  refuses('path.peer_name', { peerName: parseHostName('host2.example.com') });
  refuses('path.peer_name', { peerName: parseHostName('10.1.2.4') });
  const key = await generatePrivateKey('ecdsa-p256-sha256');
  const nameless = issueLeaf(authority.issuer, 'libvirt-client', key, { names: [] });
  refuses('path.peer_name', {
    leaf: nameless,
    purpose: 'clientAuth',
    peerName: parseHostName('host1.example.com'),
  });
});

test('an authority is refused in the place of a leaf', () => {
  refuses('path.leaf_is_authority', { leaf: authority.issuing });
});

test('RFC 5280 §6.1.3: a certificate whose signature or content was changed is refused', () => {
  for (const offset of [leaf.der.length - 1, 60]) {
    const der = Uint8Array.from(leaf.der);
    der[offset] = (der[offset] as number) ^ 1;
    let changed: Certificate;
    try {
      changed = parseCertificate(der);
    } catch (error) {
      assert.ok(isTrustError(error));
      continue;
    }
    assert.throws(() => verifyPath(question({ leaf: changed })), isTrustError);
  }
});

test('many authorities of one name end the search with a clear refusal', async () => {
  const crowd = Array.from({ length: 200 }, () => ({ ...other.issuing }));
  refuses('path.signature', { intermediates: crowd, anchors: [other.root] });
});
