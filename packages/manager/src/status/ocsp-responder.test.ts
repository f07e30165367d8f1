import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DAY, HOUR, type Instant, instant, MINUTE, parseInstant } from '@virt-trust/base/instant.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { type Certificate, parseCertificates } from '@virt-trust/pki/certificate.ts';
import { explicit, sequence } from '@virt-trust/pki/der/writer.ts';
import { encodeExtension } from '@virt-trust/pki/extension-encode.ts';
import { parseOcspRequest } from '@virt-trust/pki/ocsp-request.ts';
import { parseOcspResponse } from '@virt-trust/pki/ocsp-response.ts';
import { statusInOcspResponse, verifyOcspResponse } from '@virt-trust/pki/ocsp-verify.ts';
import { newSerialNumber } from '@virt-trust/pki/serial-number.ts';
import { requestOfKvm2 } from '../issuance/fixtures.ts';
import { ocspRequest, temporaryResponder } from './fixtures.ts';
import type { OcspReply } from './ocsp-responder.ts';

const START = parseInstant('2026-11-22T04:00:00Z');

function movable() {
  let now: Instant = START;
  return {
    now: () => now,
    move: (milliseconds: number) => {
      now = instant(now + milliseconds);
    },
  };
}

const derOf = (reply: OcspReply) => (reply.kind === 'shared' ? reply.answer.der : reply.der);

function statusOf(reply: OcspReply, certificate: Certificate, issuer: Certificate, at: Instant) {
  const status = statusInOcspResponse(parseOcspResponse(derOf(reply)), certificate, { issuer, at });
  return status.kind === 'unknown' ? status.why.code : status.kind;
}

test('RFC 6960 §2.2: certificates are good, revoked, or unknown where nobody was issued them', async (t) => {
  const clock = movable();
  const { responder, control, source, kvm1, kvm2 } = await temporaryResponder(t, clock);
  const { issuing } = control;
  const ask = async (serial: Certificate['serialNumber'], hash: 'sha1' | 'sha256') =>
    responder.respond(ocspRequest(issuing, [serial], { hash }));
  source.revoke('control', kvm2.serialNumber, START);
  for (const hash of ['sha1', 'sha256'] as const) {
    assert.equal(statusOf(await ask(kvm1.serialNumber, hash), kvm1, issuing, START), 'good');
    assert.equal(statusOf(await ask(kvm2.serialNumber, hash), kvm2, issuing, START), 'revoked');
    const serial = newSerialNumber(systemRandomness);
    const reply = await ask(serial, hash);
    assert.equal(reply.kind, 'single');
    const [single] = parseOcspResponse(derOf(reply)).responses;
    assert.deepEqual([single?.status.kind, single?.certId.serialNumber], ['unknown', serial]);
  }
});

test('RFC 6960 §2.3: as long as a restored manager holds its CRLs back, the answer is tryLater, also where another was kept', async (t) => {
  const { responder, control, source, kvm1 } = await temporaryResponder(t, movable());
  const request = ocspRequest(control.issuing, [kvm1.serialNumber]);
  const before = await responder.respond(request);
  source.held = true;
  const reply = await responder.respond(request);
  assert.equal(reply.kind, 'error');
  assert.throws(() => parseOcspResponse(derOf(reply)), /tryLater/);
  source.held = false;
  assert.deepEqual(derOf(await responder.respond(request)), derOf(before));
});

test('RFC 6960 §4.2.2.2: the responder’s certificate is its authority’s, for this alone, recorded, short-lived and renewed', async (t) => {
  const clock = movable();
  const { responder, control, certificates, kvm1 } = await temporaryResponder(t, clock);
  const { issuing } = control;
  const request = ocspRequest(issuing, [kvm1.serialNumber]);
  const responderOf = async () => {
    const response = parseOcspResponse(derOf(await responder.respond(request)));
    return verifyOcspResponse(response, { issuer: issuing, at: clock.now() }).responder;
  };
  const first = await responderOf();
  const record = await certificates.find(first.serialNumber);
  assert.equal(record?.profile, 'ocsp-responder');
  assert.equal(first.extensions.basicConstraints?.ca, false);
  assert.ok(first.extensions.oids.includes('1.3.6.1.5.5.7.48.1.5'));
  assert.ok(first.notAfter - clock.now() <= 8 * DAY);
  clock.move(3 * DAY);
  assert.equal((await responderOf()).serialNumber, first.serialNumber);
  clock.move(DAY);
  const second = await responderOf();
  assert.notEqual(second.serialNumber, first.serialNumber);
  assert.notEqual(second.pin, first.pin);
});

test('an answer is signed once, and anew after half of the time that it holds', async (t) => {
  const clock = movable();
  const { responder, control, kvm1 } = await temporaryResponder(t, clock);
  const request = ocspRequest(control.issuing, [kvm1.serialNumber]);
  const replies = await Promise.all([responder.respond(request), responder.respond(request)]);
  assert.deepEqual(derOf(replies[0]), derOf(replies[1]));
  clock.move(29 * MINUTE);
  assert.deepEqual(derOf(await responder.respond(request)), derOf(replies[0]));
  clock.move(2 * MINUTE);
  const later = await responder.respond(request);
  assert.notDeepEqual(derOf(later), derOf(replies[0]));
  assert.ok(later.kind === 'shared');
  assert.equal(later.answer.nextUpdate - later.answer.producedAt, HOUR);
});

test('SECURITY: a revocation is told at once, also to who asked while the answer was being signed', async (t) => {
  const clock = movable();
  const { responder, control, source, kvm1, kvm2 } = await temporaryResponder(t, clock);
  const { issuing } = control;
  const request = ocspRequest(issuing, [kvm1.serialNumber]);
  assert.equal(statusOf(await responder.respond(request), kvm1, issuing, START), 'good');
  source.revoke('control', kvm1.serialNumber, START);
  assert.equal(statusOf(await responder.respond(request), kvm1, issuing, START), 'revoked');
  // The last look that finds it good; the revocation comes before the signature.
  source.onLook = () => {
    queueMicrotask(() => source.revoke('control', kvm2.serialNumber, START));
  };
  const other = ocspRequest(issuing, [kvm2.serialNumber]);
  const meanwhile = responder.respond(other);
  assert.equal(statusOf(await meanwhile, kvm2, issuing, START), 'revoked');
  source.onLook = () => undefined;
  assert.equal(statusOf(await responder.respond(other), kvm2, issuing, START), 'revoked');
});

test('RFC 8954 §2.1: a nonce comes back, in an answer of its own', async (t) => {
  const clock = movable();
  const { responder, control, kvm1 } = await temporaryResponder(t, clock);
  const { issuing } = control;
  for (const length of [1, 32, 128]) {
    const nonce = systemRandomness.bytes(length);
    const reply = await responder.respond(ocspRequest(issuing, [kvm1.serialNumber], { nonce }));
    assert.equal(reply.kind, 'single');
    const status = statusInOcspResponse(parseOcspResponse(derOf(reply)), kvm1, {
      issuer: issuing,
      at: START,
      nonce,
    });
    assert.equal(status.kind, 'good');
  }
});

test('RFC 6960 §4.1: several certificates are answered in one response, others’ as unknown', async (t) => {
  const clock = movable();
  const { responder, authorities, control, kvm1, kvm2 } = await temporaryResponder(t, clock);
  const request = ocspRequest(control.issuing, [kvm1.serialNumber, kvm2.serialNumber]);
  const both = parseOcspResponse(derOf(await responder.respond(request)));
  assert.deepEqual(
    both.responses.map(({ certId, status }) => [certId.serialNumber, status.kind]),
    [
      [kvm1.serialNumber, 'good'],
      [kvm2.serialNumber, 'good'],
    ],
  );
  const console = authorities.byPurpose('console').issuing;
  const foreign = await responder.respond(ocspRequest(console, [kvm1.serialNumber]));
  assert.equal(parseOcspResponse(derOf(foreign)).responses[0]?.status.kind, 'unknown');
  const unknownIssuer = await responder.respond(ocspRequest(kvm2, [kvm1.serialNumber]));
  assert.equal(parseOcspResponse(derOf(unknownIssuer)).responses[0]?.status.kind, 'unknown');
});

test('RFC 6960 §2.3: what is no request is malformed, and what fails inside an internal error', async (t) => {
  const clock = movable();
  const { responder, control, source, kvm1 } = await temporaryResponder(t, clock);
  const good = ocspRequest(control.issuing, [kvm1.serialNumber]);
  const withExtension = (criticality: 'critical' | 'not-critical') => {
    const list = parseOcspRequest(good).certIds.map(({ der }) => sequence(der));
    const extension = encodeExtension('1.2.3.4', criticality, Buffer.from([5, 0]));
    return Buffer.from(sequence(sequence(sequence(...list), explicit(2, sequence(extension)))));
  };
  const bodies = [
    Buffer.alloc(0),
    Buffer.from('3000', 'hex'),
    good.subarray(0, -1),
    Buffer.alloc(20_000),
    withExtension('critical'),
  ];
  for (const body of bodies) {
    const reply = await responder.respond(body);
    assert.deepEqual([reply.kind, derOf(reply).toString('hex')], ['error', '30030a0101']);
  }
  assert.equal((await responder.respond(withExtension('not-critical'))).kind, 'shared');
  source.changed('control');
  source.onLook = () => {
    throw new Error('the store is gone');
  };
  const failed = await responder.respond(ocspRequest(control.issuing, [kvm1.serialNumber]));
  assert.deepEqual([failed.kind, derOf(failed).toString('hex')], ['error', '30030a0102']);
});

test('SECURITY: however many serial numbers are asked for, no more answers are kept than allowed, and nothing is written', async (t) => {
  const clock = movable();
  const { responder, control, source, certificates, kvm1 } = await temporaryResponder(t, clock, 10);
  const { issuing } = control;
  const request = ocspRequest(issuing, [kvm1.serialNumber]);
  const first = derOf(await responder.respond(request));
  for (let count = 0; count < 50; count++) {
    await responder.respond(ocspRequest(issuing, [newSerialNumber(systemRandomness)]));
  }
  assert.deepEqual(derOf(await responder.respond(request)), first, 'made-up numbers pushed out a real one');
  for (let count = 0; count < 10; count++) {
    const serial = newSerialNumber(systemRandomness);
    source.statuses.set(`control ${serial}`, { kind: 'good' });
    await responder.respond(ocspRequest(issuing, [serial]));
  }
  assert.notDeepEqual(derOf(await responder.respond(request)), first);
  const list = await certificates.list({ before: null, host: null, limit: 100 });
  assert.equal(list.length, 3, 'two hosts’ certificates and one responder’s');
});

test('setting status.public_url puts CRL and OCSP into new certificates', async (t) => {
  const clock = movable();
  const { issuance, settings } = await temporaryResponder(t, clock);
  await settings.put('status.public_url', 'http://pki.example:8080', { scope: 'global', target: '' }, 'test');
  const { pem } = await issuance.issueForHost({
    host: 'kvm2',
    service: 'migration',
    csr: await requestOfKvm2(),
    actor: 'test',
  });
  const [certificate] = parseCertificates(pem);
  const { crlDistributionPoints, authorityInfoAccess } = certificate?.extensions ?? {};
  const text = (value: { der: Uint8Array } | undefined) => Buffer.from(value?.der ?? []).toString('latin1');
  assert.match(text(crlDistributionPoints), /http:\/\/pki\.example:8080\/crl\/migration\.crl/);
  assert.match(text(authorityInfoAccess), /http:\/\/pki\.example:8080\/ocsp/);
  assert.deepEqual([crlDistributionPoints?.critical, authorityInfoAccess?.critical], [false, false]);
});
