import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { MINUTE } from '@virt-trust/base/instant.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import type { Certificate } from './certificate.ts';
import type { Issuer } from './certificate-issue.ts';
import { generatePrivateKey } from './key.ts';
import { encodeCertId, issuerHashes } from './ocsp-cert-id.ts';
import { type OcspAnswers, prepareOcspSigner, signOcspResponse } from './ocsp-issue.ts';
import { type OcspCertStatus, parseOcspResponse } from './ocsp-response.ts';
import { type OcspDemands, statusInOcspResponse } from './ocsp-verify.ts';
import type { LeafProfileName } from './profiles.ts';
import { inDays, issueLeaf, makeAuthority, NOW, type TestAuthority } from './test-support.ts';

let authority: TestAuthority;
let other: TestAuthority;
let leaf: Certificate;

before(async () => {
  authority = await makeAuthority();
  // The same names, other keys.
  other = await makeAuthority();
  leaf = issueLeaf(authority.issuer, 'migration', await generatePrivateKey('ecdsa-p256-sha256'));
});

const GOOD: OcspCertStatus = { kind: 'good' };

function answersOf(status: OcspCertStatus, more: Partial<OcspAnswers> = {}): OcspAnswers {
  const certId = encodeCertId(issuerHashes(authority.issuing, 'sha256'), leaf.serialNumber);
  const answers = [{ certId, status, thisUpdate: NOW, nextUpdate: inDays(1) }];
  return { producedAt: NOW, answers, ...more };
}

/** The verdict, or the code of why there is none. */
function verdict(der: Uint8Array, demands: Partial<OcspDemands> = {}): string {
  const status = statusInOcspResponse(parseOcspResponse(der), leaf, {
    issuer: authority.issuing,
    at: NOW,
    ...demands,
  });
  return status.kind === 'unknown' ? status.why.code : status.kind;
}

async function delegated(
  issuer: Issuer,
  profile: LeafProfileName,
  days = 7,
  answers = answersOf(GOOD),
): Promise<Uint8Array> {
  const key = await generatePrivateKey('ecdsa-p256-sha256');
  const names = profile === 'ocsp-responder' ? { names: [] } : {};
  const certificate = issueLeaf(issuer, profile, key, { ...names, notAfter: inDays(days) });
  return signOcspResponse(prepareOcspSigner(certificate, key), answers);
}

test('RFC 6960 §4.2.2.2: the issuer signs itself, or whom it certified for this', async () => {
  const direct = prepareOcspSigner(authority.issuing, authority.issuer.key);
  assert.equal(verdict(signOcspResponse(direct, answersOf(GOOD))), 'good');
  assert.equal(verdict(await delegated(authority.issuer, 'ocsp-responder')), 'good');
});

test('SECURITY: nobody else signs: no server, no other authority of that name, nobody whose time is over', async () => {
  assert.equal(verdict(await delegated(authority.issuer, 'migration')), 'ocsp.responder');
  assert.equal(verdict(await delegated(other.issuer, 'ocsp-responder')), 'signature.invalid');
  assert.equal(verdict(await delegated(authority.rootIssuer, 'ocsp-responder')), 'ocsp.responder');
  const other2 = prepareOcspSigner(other.issuing, other.issuer.key);
  assert.equal(verdict(signOcspResponse(other2, answersOf(GOOD))), 'ocsp.responder');
  const ended = await delegated(authority.issuer, 'ocsp-responder', -0.5);
  assert.equal(verdict(ended), 'ocsp.responder');
});

test('RFC 6960 §4.2.2.1: an answer holds from thisUpdate to nextUpdate', () => {
  const signer = prepareOcspSigner(authority.issuing, authority.issuer.key);
  const der = signOcspResponse(signer, answersOf(GOOD));
  assert.equal(verdict(der, { at: inDays(1) }), 'good');
  assert.equal(verdict(der, { at: inDays(1.001) }), 'ocsp.stale');
  assert.equal(verdict(der, { at: inDays(0.5), maxAge: 5 * MINUTE }), 'ocsp.stale');
  assert.equal(verdict(der, { at: inDays(-0.001) }), 'ocsp.not_yet_valid');
  assert.equal(verdict(der, { at: inDays(-0.001), clockSkew: 5 * MINUTE }), 'good');
  const revoked = { kind: 'revoked', at: NOW, reason: 'keyCompromise' } as const;
  assert.equal(verdict(signOcspResponse(signer, answersOf(revoked)), { at: inDays(9) }), 'revoked');
  const held = { ...revoked, reason: 'certificateHold' } as const;
  assert.equal(verdict(signOcspResponse(signer, answersOf(held)), { at: inDays(9) }), 'ocsp.stale');
});

test('RFC 8954 §2.1: the nonce of the request has to come back', () => {
  const signer = prepareOcspSigner(authority.issuing, authority.issuer.key);
  const nonce = systemRandomness.bytes(32);
  const der = signOcspResponse(signer, answersOf(GOOD, { nonce }));
  assert.equal(verdict(der, { nonce }), 'good');
  assert.equal(verdict(der, { nonce: systemRandomness.bytes(32) }), 'ocsp.nonce');
  assert.equal(verdict(signOcspResponse(signer, answersOf(GOOD)), { nonce }), 'ocsp.nonce');
});

test('RFC 6960 §4.2.1: reasons and times of revocations come back', () => {
  const signer = prepareOcspSigner(authority.issuing, authority.issuer.key);
  for (const reason of ['unspecified', 'superseded', 'certificateHold', 'aACompromise'] as const) {
    const status = { kind: 'revoked', at: inDays(-3), reason } as const;
    const response = parseOcspResponse(signOcspResponse(signer, answersOf(status)));
    assert.deepEqual(response.responses[0]?.status, status);
  }
});

test('what is said of other certificates says nothing of this one', async () => {
  const second = issueLeaf(authority.issuer, 'migration', await generatePrivateKey('ecdsa-p256-sha256'));
  const signer = prepareOcspSigner(authority.issuing, authority.issuer.key);
  const times = { thisUpdate: NOW, nextUpdate: inDays(1) };
  const ids = [
    encodeCertId(issuerHashes(authority.issuing, 'sha256'), second.serialNumber),
    encodeCertId(issuerHashes(other.issuing, 'sha256'), leaf.serialNumber),
  ];
  const answers = ids.map((certId) => ({ certId, status: GOOD, ...times }));
  const der = signOcspResponse(signer, { producedAt: NOW, answers });
  assert.equal(verdict(der), 'ocsp.other_certificate');
});
