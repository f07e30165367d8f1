import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import fc from 'fast-check';
import { VencryptClient, type VencryptStep } from './vencrypt.ts';

const RFB = Buffer.from('RFB 003.008\n');

function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) bytes.writeUInt32BE(value, index * 4);
  return bytes;
}

/** What QEMU sends when it offers these subtypes and accepts the client's choice. */
function server(...subtypes: number[]): Buffer {
  return Buffer.concat([RFB, Buffer.of(1, 19, 0, 2, 0, subtypes.length), u32(...subtypes), Buffer.of(1)]);
}

function run(bytes: Uint8Array, cut = bytes.length): VencryptStep {
  const client = new VencryptClient();
  const sent: Uint8Array[] = [];
  let step: VencryptStep = { send: new Uint8Array(), state: { kind: 'handshaking' } };
  for (let at = 0; at < bytes.length; at += cut) {
    step = client.receive(bytes.subarray(at, at + cut));
    sent.push(step.send);
  }
  return { send: Buffer.concat(sent), state: step.state };
}

test('RFC 6143 §7.1: with a server of QEMU the exchange ends in TLS with X509None, however it is cut', () => {
  for (const cut of [1, 2, 3, 5, 7, 13, 1000]) {
    const { send, state } = run(server(260), cut);
    assert.deepEqual(state, { kind: 'tls', subtype: 'X509None' });
    assert.deepEqual(Buffer.from(send), Buffer.concat([RFB, Buffer.of(19, 0, 2), u32(260)]));
  }
});

test('VeNCrypt: of several subtypes with a certificate the one that asks least is taken', () => {
  assert.deepEqual(run(server(257, 264, 262, 261)).state, { kind: 'tls', subtype: 'X509Vnc' });
  assert.deepEqual(run(server(264)).state, { kind: 'tls', subtype: 'X509SASL' });
});

test('a server that shows no certificate, refuses or is none is named as such', () => {
  for (const [bytes, code, message] of [
    [server(257, 259), 'vnc.no_certificate', /offers TLSNone, TLSPlain, none with a certificate/],
    [server(), 'vnc.no_certificate', /offers no subtype/],
    [Buffer.concat([RFB, Buffer.of(2, 1, 2)]), 'vnc.no_tls', /security types 1, 2, not VeNCrypt/],
    [Buffer.concat([RFB, Buffer.of(0), u32(4), Buffer.from('busy')]), 'vnc.refused', /refuses: "busy"/],
    [Buffer.from('RFB 003.003\n'), 'vnc.no_tls', /before 003.008/],
    [Buffer.from('SSH-2.0-Open'), 'vnc.malformed', /does not speak RFB/],
    [Buffer.concat([RFB, Buffer.of(1, 19, 0, 1)]), 'vnc.no_tls', /VeNCrypt 0.1/],
    [Buffer.concat([RFB, Buffer.of(1, 19, 0, 2, 1)]), 'vnc.refused', /refuses VeNCrypt 0.2/],
    [Buffer.concat([server(260).subarray(0, -1), Buffer.of(0)]), 'vnc.refused', /refuses X509None/],
    [Buffer.concat([server(260), Buffer.of(22)]), 'vnc.malformed', /spoke before TLS began/],
  ] as const) {
    assert.throws(() => run(bytes), { code, message });
  }
});

test('any bytes of a server are waited on, answered or refused', () => {
  const likely = fc
    .tuple(
      fc.constantFrom(server(260), server(257, 261), server(1, 2, 3)),
      fc.nat(60),
      fc.uint8Array({ maxLength: 4 }),
    )
    .map(([bytes, at, insert]) => Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(at)]));
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array(), likely), fc.integer({ min: 1, max: 20 }), (bytes, cut) => {
      try {
        const { send } = run(bytes, cut);
        assert.ok(send.length <= 19);
      } catch (error) {
        assert.ok(isTrustError(error) && error.code.startsWith('vnc.'), String(error));
      }
    }),
    { numRuns: 1000 },
  );
});
