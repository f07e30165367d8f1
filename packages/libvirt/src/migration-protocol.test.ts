import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import fc from 'fast-check';
import {
  authList,
  connectListAllDomains,
  connectOpen,
  domainGetJobStats,
  domainGetState,
  domainLookupByName,
  domainMigrateBegin3Params,
  domainMigrateConfirm3Params,
  domainMigrateFinish3Params,
  domainMigratePerform3Params,
  domainMigratePrepare3Params,
  domainMigrateSetMaxSpeed,
  qemuDomainMonitorCommand,
} from './migration-protocol.ts';
import { type TypedParameter, typedParameter } from './typed-params.ts';
import { encodeXdrString, encodeXdrUnsigned } from './xdr.ts';
import { decodeWhole, type XdrCodec, xdrList, xdrText } from './xdr-codec.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const i32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const i64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const text = fc.string({ unit: 'grapheme', maxLength: 30 }).filter((value) => !value.includes('\0'));
const name = fc.stringMatching(/^[a-z._]{1,40}$/);
const bytes = fc.uint8Array({ maxLength: 20 }).map((value) => Buffer.from(value));
const domain = fc.record({ name: text, uuid: fc.uuid(), id: i32 }, { noNullPrototype: true });
const kinds = (kind: string, value: fc.Arbitrary<unknown>) =>
  fc.record({ name, kind: fc.constant(kind), value }, { noNullPrototype: true });
const parameter = fc.oneof(
  kinds('int', i32),
  kinds('uint', u32),
  kinds('llong', i64),
  kinds('ullong', u64),
  kinds('double', fc.double()),
  kinds('boolean', fc.boolean()),
  kinds('string', text),
) as fc.Arbitrary<TypedParameter>;
const params = fc.array(parameter, { maxLength: 64 });
const record = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }) =>
  fc.record(model, { noNullPrototype: true }) as fc.Arbitrary<T>;

function survives<Value>(codec: XdrCodec<Value>, values: fc.Arbitrary<Value>): void {
  fc.assert(
    fc.property(values, (value) => {
      const encoded = codec.encode(value);
      assert.equal(encoded.length % 4, 0);
      assert.deepEqual(normal(decodeWhole(codec, encoded)), normal(value));
    }),
    { numRuns: 50 },
  );
}

/** Buffers and other arrays of bytes alike. */
function normal(value: unknown): unknown {
  if (value instanceof Uint8Array) return hex(value);
  if (Array.isArray(value)) return value.map(normal);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, normal(part)]));
}

describe('remote_protocol.x', () => {
  it('a typed parameter is its name, the number of its type and its value', () => {
    assert.equal(
      hex(typedParameter.encode({ name: 'bandwidth', kind: 'ullong', value: 5n })),
      `00000009${Buffer.from('bandwidth').toString('hex')}000000${'00000004'}0000000000000005`,
    );
  });

  it('what is sent is read again as it was: arguments of the five procedures of a migration', () => {
    const flags = u32;
    survives(domainMigrateBegin3Params.args, record({ domain, params, flags }));
    survives(domainMigratePrepare3Params.args, record({ params, cookieIn: bytes, flags }));
    const destinationUri = fc.option(text);
    survives(
      domainMigratePerform3Params.args,
      record({ domain, destinationUri, params, cookieIn: bytes, flags }),
    );
    survives(domainMigrateFinish3Params.args, record({ params, cookieIn: bytes, flags, cancelled: i32 }));
    survives(
      domainMigrateConfirm3Params.args,
      record({ domain, params, cookieIn: bytes, flags, cancelled: i32 }),
    );
  });

  it('what is answered is read again as it was', () => {
    survives(domainMigrateBegin3Params.result, record({ cookieOut: bytes, xml: text }));
    survives(domainMigratePrepare3Params.result, record({ cookieOut: bytes, uriOut: fc.option(text) }));
    survives(domainMigratePerform3Params.result, record({ cookieOut: bytes }));
    survives(domainMigrateFinish3Params.result, record({ domain, cookieOut: bytes }));
    survives(domainGetJobStats.result, record({ type: i32, params }));
    survives(domainGetState.result, record({ state: i32, reason: i32 }));
    survives(
      connectListAllDomains.result,
      record({ domains: fc.array(domain, { maxLength: 20 }), count: u32 }),
    );
    survives(domainLookupByName.result, record({ domain }));
    survives(authList.result, record({ types: fc.array(u32, { maxLength: 20 }) }));
    survives(connectOpen.args, record({ uri: fc.option(text), flags: u32 }));
    survives(domainMigrateSetMaxSpeed.args, record({ domain, bandwidth: u64, flags: u32 }));
    survives(qemuDomainMonitorCommand.args, record({ domain, command: text, flags: u32 }));
  });

  it('any bytes are read or refused as malformed, never anything else', () => {
    const codecs = [
      domainMigrateBegin3Params,
      domainMigratePrepare3Params,
      domainMigratePerform3Params,
      domainMigrateFinish3Params,
      domainMigrateConfirm3Params,
      domainGetJobStats,
      connectListAllDomains,
    ].flatMap(({ args, result }): XdrCodec<unknown>[] => [
      args as XdrCodec<unknown>,
      result as XdrCodec<unknown>,
    ]);
    const words = fc
      .array(fc.oneof(fc.constantFrom(0, 1, 2, 4, 7, 64, 65, 4_194_305, 0xffffffff), u32), { maxLength: 40 })
      .map((values) => Buffer.concat(values.map(encodeXdrUnsigned)));
    fc.assert(
      fc.property(fc.oneof(words, fc.uint8Array({ maxLength: 200 })), (payload) => {
        for (const codec of codecs)
          try {
            decodeWhole(codec, payload);
          } catch (error) {
            assert.ok(isTrustError(error, 'rpc.malformed'));
          }
      }),
    );
  });

  it('REMOTE_DOMAIN_MIGRATE_PARAM_LIST_MAX, REMOTE_MIGRATE_COOKIE_MAX, REMOTE_DOMAIN_LIST_MAX: longer lists and cookies are refused', () => {
    const refused = (payload: Uint8Array, what: RegExp) =>
      assert.throws(() => decodeWhole(domainMigratePrepare3Params.args, payload), {
        code: 'rpc.malformed',
        message: what,
      });
    refused(encodeXdrUnsigned(65), /a list of 65/);
    refused(Buffer.concat([encodeXdrUnsigned(0), encodeXdrUnsigned(4_194_305)]), /4194305 bytes/);
    assert.throws(() => decodeWhole(connectListAllDomains.result, encodeXdrUnsigned(16_385)), {
      code: 'rpc.malformed',
      message: /a list of 16385/,
    });
    const one: TypedParameter = { name: 'a', kind: 'int', value: 1 };
    assert.throws(() => xdrList(typedParameter, 2).encode([one, one, one]), { code: 'rpc.too_long' });
  });

  it('a string with a NUL, one that is not UTF-8 and an unknown type are refused, for libvirt would read another', () => {
    const malformed = { code: 'rpc.malformed' };
    assert.throws(() => decodeWhole(xdrText(), encodeXdrString('vm\0other')), malformed);
    assert.throws(() => decodeWhole(xdrText(), Buffer.from('00000001ff000000', 'hex')), malformed);
    const unknown = Buffer.concat([encodeXdrString('a'), encodeXdrUnsigned(8), encodeXdrUnsigned(0)]);
    assert.throws(() => decodeWhole(typedParameter, unknown), malformed);
  });
});
