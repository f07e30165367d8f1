import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseMigrateParameters, streamSource } from './proof.ts';

describe('parseMigrateParameters', () => {
  it('says which credentials carry the stream', () => {
    const answer =
      '{"return":{"tls-creds":"objlibvirt_migrate_tls0","tls-hostname":"192.0.2.2"},"id":"libvirt-3"}';
    assert.deepEqual(parseMigrateParameters(answer), {
      tlsCreds: 'objlibvirt_migrate_tls0',
      tlsHostname: '192.0.2.2',
    });
  });

  it('proves nothing by a stream without credentials, or by any other text', () => {
    assert.equal(parseMigrateParameters('{"return":{"tls-creds":""}}'), undefined);
    fc.assert(fc.property(fc.string(), (text) => parseMigrateParameters(text) === undefined));
    fc.assert(fc.property(fc.json(), (text) => void parseMigrateParameters(text)));
  });
});

describe('streamSource', () => {
  const sockets = [
    '0 0 192.0.2.1:40000 192.0.2.2:16514',
    '0 0 192.0.2.1:40001 192.0.2.9:49152',
    '0 0 10.0.1.1:49152 10.0.1.2:50000',
    '0 0 192.0.2.1:40002 192.0.2.2:49153',
    '0 0 [2001:db8::1]:40003 [2001:db8:0::2]:49152',
  ].join('\n');
  it("tells from where a stream goes to the destination's migration ports", () => {
    assert.equal(streamSource(sockets, '192.0.2.2'), '192.0.2.1');
    assert.equal(streamSource(sockets, '2001:db8::2'), '2001:db8::1');
    assert.equal(streamSource(sockets, '10.0.1.2'), undefined);
  });

  it('tells nothing from any other text', () => {
    fc.assert(fc.property(fc.string(), (text) => streamSource(text, '192.0.2.2') === undefined));
  });
});
