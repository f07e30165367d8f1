import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import fc from 'fast-check';
import {
  CONNECT_READ_ONLY,
  decodeAuthList,
  decodeHostname,
  decodeReply,
  encodeCall,
  encodeConnectOpen,
  encodePacket,
  PROCEDURES,
  type RpcPacket,
  RpcPacketReader,
} from './rpc.ts';
import { encodeXdrString, encodeXdrUnsigned, XdrReader } from './xdr.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const packet: fc.Arbitrary<RpcPacket> = fc.record(
  {
    program: u32,
    version: u32,
    procedure: u32,
    type: u32,
    serial: u32,
    status: u32,
    payload: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  },
  { noNullPrototype: true },
);

function reply(fields: Partial<RpcPacket>): RpcPacket {
  return {
    program: 0x20008086,
    version: 1,
    procedure: PROCEDURES.authList,
    type: 1,
    serial: 7,
    status: 0,
    payload: new Uint8Array(),
    ...fields,
  };
}

test('remote_protocol.x: a call of AUTH_LIST is the 28 bytes of its header', () => {
  assert.equal(
    hex(encodeCall(PROCEDURES.authList, 0)),
    ['0000001c', '20008086', '00000001', '00000042', '00000000', '00000000', '00000000'].join(''),
  );
});

test('remote_protocol.x: CONNECT_OPEN carries an optional string, padded, and flags', () => {
  assert.equal(
    hex(encodeConnectOpen('qemu:///system', CONNECT_READ_ONLY)),
    `00000001${'0000000e'}${Buffer.from('qemu:///system').toString('hex')}0000${'00000001'}`,
  );
});

test('remote_protocol.x: an answer to AUTH_LIST names what it demands', () => {
  const payload = Buffer.concat([3, 0, 2, 9].map(encodeXdrUnsigned));
  const answer = decodeReply(reply({ payload }), PROCEDURES.authList, 7);
  assert.equal(answer.kind, 'ok');
  assert.deepEqual(decodeAuthList(payload), ['none', 'polkit', 9]);
  assert.throws(() => decodeAuthList(encodeXdrUnsigned(0xffffffff)), { code: 'rpc.malformed' });
});

test('remote_protocol.x: the answer to GET_HOSTNAME is a string', () => {
  assert.equal(decodeHostname(encodeXdrString('höst')), 'höst');
});

test('virnetprotocol.x: an error carries libvirt’s own message', () => {
  const message = 'authentication required';
  const payload = Buffer.concat([
    encodeXdrUnsigned(45),
    encodeXdrUnsigned(7),
    encodeXdrUnsigned(1),
    encodeXdrString(message),
    Buffer.alloc(32),
  ]);
  assert.deepEqual(decodeReply(reply({ payload, status: 1 }), PROCEDURES.authList, 7), {
    kind: 'error',
    error: { code: 45, domain: 7, message },
  });
});

test('events and keep-alives are not the answer, and an answer to a call that was not made is refused', () => {
  assert.equal(decodeReply(reply({ type: 2 }), PROCEDURES.authList, 7).kind, 'unrelated');
  assert.equal(decodeReply(reply({ program: 0x6b656570 }), PROCEDURES.authList, 7).kind, 'unrelated');
  for (const wrong of [{ serial: 8 }, { procedure: 1 }, { version: 2 }, { status: 2 }]) {
    assert.throws(() => decodeReply(reply(wrong), PROCEDURES.authList, 7), { code: 'rpc.malformed' });
  }
});

test('packets come out whole however the stream is cut', () => {
  fc.assert(
    fc.property(fc.array(packet, { maxLength: 5 }), fc.array(fc.nat(30)), (packets, cuts) => {
      const stream = Buffer.concat(packets.map(encodePacket));
      const reader = new RpcPacketReader();
      const seen: RpcPacket[] = [];
      let at = 0;
      for (const cut of cuts) {
        seen.push(...reader.push(stream.subarray(at, at + cut)));
        at += cut;
      }
      seen.push(...reader.push(stream.subarray(at)));
      assert.deepEqual(seen, packets);
    }),
  );
});

test('a packet that claims less than a header or more than the limit is refused before it is there', () => {
  for (const length of [0, 27, 1024 * 1024 + 1, 0xffffffff]) {
    assert.throws(() => new RpcPacketReader().push(encodeXdrUnsigned(length)), { code: 'rpc.malformed' });
  }
});

test('RFC 4506 §4.11: a string with padding that is not zero or without its end is refused', () => {
  for (const bytes of ['00000001610000ff', '0000000161', '00000005616263', 'ffffffff']) {
    assert.throws(() => new XdrReader(Buffer.from(bytes, 'hex')).string(), { code: 'rpc.malformed' });
  }
  assert.throws(() => decodeHostname(Buffer.concat([encodeXdrString('a'), Buffer.alloc(4)])), {
    code: 'rpc.malformed',
  });
});

test('any bytes of a peer are read or refused as malformed', () => {
  const decoders = [
    (bytes: Uint8Array) => new RpcPacketReader(4096).push(bytes),
    decodeAuthList,
    decodeHostname,
    (payload: Uint8Array) => decodeReply(reply({ payload, status: 1 }), PROCEDURES.authList, 7),
  ];
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.constantFrom(...decoders), (bytes, decode) => {
      try {
        decode(bytes);
      } catch (error) {
        assert.ok(isTrustError(error, 'rpc.malformed'), String(error));
      }
    }),
    { numRuns: 1000 },
  );
});
