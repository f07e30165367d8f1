import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { testMigrationOptions } from '@virt-trust/contract/model/fixtures.ts';
import type { MigrationOptions } from '@virt-trust/contract/model/migration-options.ts';
import { orderOf } from './fixtures.ts';
import { migrationFlags, migrationParameters, tcpStreams } from './parameters.ts';

const wish = (options: Partial<MigrationOptions>, mode: 'tls' | 'plain' = 'plain') =>
  orderOf({ mode, options: testMigrationOptions(options) });

describe('migrationFlags', () => {
  const cases: readonly (readonly [string, Partial<MigrationOptions>, number])[] = [
    ['nothing but live', {}, 1],
    ['not live', { live: false }, 0],
    ['persistent', { persistent: true }, 1 | 8],
    ['undefine source', { undefineSource: true }, 1 | 16],
    ['all disks', { copyStorage: 'all' }, 1 | 64],
    ['what differs of disks', { copyStorage: 'inc' }, 1 | 128],
    ['compression', { compression: 'xbzrle' }, 1 | 2048],
    ['auto-converge', { autoConverge: true }, 1 | 8192],
    ['post-copy', { postCopy: true }, 1 | 32768],
    ['post-copy when time is over', { timeoutSeconds: 5, timeoutAction: 'post-copy' }, 1 | 32768],
    ['no post-copy without a time', { timeoutAction: 'post-copy' }, 1],
    ['parallel', { parallel: 4 }, 1 | 131072],
    ['raw flags as they are', { flags: 0x200 }, 1 | 0x200],
    ['protection by phase alone', { flags: 0x100 }, 1],
    ['offline, with the definition and nothing that moves memory', { offline: true, parallel: 2 }, 1024 | 8],
  ];
  for (const [what, options, flags] of cases)
    it(`gives libvirt ${what}`, () => assert.equal(migrationFlags(wish(options)), flags));

  it('has the stream in TLS where the mode is tls', () => {
    assert.equal(migrationFlags(wish({}, 'tls')), 1 | 65536);
  });

  it('refuses flags that would have libvirt itself connect to the destination', () => {
    for (const flags of [2, 4, 1 << 19])
      assert.throws(() => migrationFlags(wish({ flags })), { code: 'migration.flags' });
  });
});

describe('migrationParameters', () => {
  const stream = { address: '2001:db8::2', listenAddress: '2001:db8::2', tlsDestination: 'b.example' };
  const values = (order: ReturnType<typeof wish>, end: 'source' | 'destination') =>
    migrationParameters({ ...order, stream }, tcpStreams(stream), end).map(({ name, value }) => [
      name,
      value,
    ]);

  it('brackets an IPv6 address, begins slowly, and names whom QEMU verifies in mode tls alone', () => {
    assert.deepEqual(values(wish({ bandwidthMiB: 50 }, 'tls'), 'source'), [
      ['migrate_uri', 'tcp://[2001:db8::2]'],
      ['listen_address', '2001:db8::2'],
      ['tls.destination', 'b.example'],
      ['bandwidth', 1n],
    ]);
    assert.ok(!values(wish({}), 'source').some(([name]) => name === 'tls.destination'));
  });

  it('names the address to verify where libvirt would have disks beside parallel connections verify the empty name', () => {
    const named = (options: Partial<MigrationOptions>, tlsDestination: string | null) =>
      migrationParameters(
        { ...wish(options, 'tls'), stream: { ...stream, tlsDestination } },
        tcpStreams(stream),
        'source',
      ).find(({ name }) => name === 'tls.destination')?.value;
    assert.equal(named({ parallel: 2, copyStorage: 'all' }, null), '2001:db8::2');
    assert.equal(named({ parallel: 2, copyStorage: 'all' }, 'b.example'), 'b.example');
    assert.deepEqual(
      [named({ parallel: 2 }, null), named({ copyStorage: 'all' }, null)],
      [undefined, undefined],
    );
  });

  it('bounds post-copy, too, where the stream is bounded', () => {
    const of = (options: Partial<MigrationOptions>) =>
      values(wish(options), 'source').filter(([name]) => name === 'bandwidth.postcopy');
    assert.deepEqual(of({ postCopy: true, bandwidthMiB: 50 }), [['bandwidth.postcopy', 50n]]);
    assert.deepEqual(of({ timeoutSeconds: 5, timeoutAction: 'post-copy', bandwidthMiB: 7 }), [
      ['bandwidth.postcopy', 7n],
    ]);
    assert.deepEqual([...of({ postCopy: true }), ...of({ bandwidthMiB: 50 })], []);
  });

  it('names disks, compression and connections', () => {
    const options: Partial<MigrationOptions> = {
      copyStorage: 'all',
      copyDisks: ['vda', 'vdb'],
      compression: 'mt',
      parallel: 3,
    };
    assert.deepEqual(values(wish(options), 'destination').slice(1), [
      ['migrate_disks', 'vda'],
      ['migrate_disks', 'vdb'],
      ['listen_address', '2001:db8::2'],
      ['compression', 'mt'],
      ['parallel.connections', 3],
    ]);
  });

  it('gives each side its own Unix sockets in mode pinned, at full speed', () => {
    const order = { ...wish({ copyStorage: 'all' }), mode: 'pinned' as const, stream: null };
    const uris = {
      source: 'unix:///a/m',
      destination: 'unix:///b/m',
      sourceDisks: 'unix:///a/d',
      destinationDisks: 'unix:///b/d',
    };
    const of = (end: 'source' | 'destination') =>
      migrationParameters(order, uris, end).map(({ name, value }) => [name, value]);
    assert.deepEqual(of('source'), [
      ['migrate_uri', 'unix:///a/m'],
      ['disks_uri', 'unix:///a/d'],
    ]);
    assert.deepEqual(of('destination'), [
      ['migrate_uri', 'unix:///b/m'],
      ['disks_uri', 'unix:///b/d'],
    ]);
  });
});
