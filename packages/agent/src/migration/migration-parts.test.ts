import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { TrustError } from '@virt-trust/base/error.ts';
import type { MigrationOrder } from '@virt-trust/contract/model/migration.ts';
import fc from 'fast-check';
import { hintFor } from './hints.ts';
import { parseJobInfo, parseMigrateParameters, streamSource } from './job-info.ts';
import { libvirtMessage, migrateArguments } from './virsh.ts';

const order: MigrationOrder = {
  id: '00000000-0000-4000-8000-000000000001',
  vm: 'vm 1',
  mode: 'tls',
  from: 'host-a',
  to: 'host-b',
  source: { kind: 'local' },
  destination: { kind: 'tls', address: '2001:db8::1', port: 16514 },
  peerAgent: false,
  stream: { address: '192.0.2.2', listenAddress: null, tlsDestination: null },
  tls: {
    migrationSerialNumber: '0badc0de',
    controlCrl: null,
    controlBundle: '-----BEGIN A',
    subject: { commonName: 'c', organization: 'o' },
  },
  options: {
    live: true,
    offline: false,
    persistent: false,
    undefineSource: false,
    copyStorage: 'none',
    copyDisks: [],
    postCopy: false,
    parallel: 0,
    compression: 'none',
    autoConverge: false,
    bandwidthMiB: 0,
    downtimeMs: 0,
    timeoutSeconds: 0,
    timeoutAction: 'abort',
    flags: 0,
  },
  doubtSeconds: 60,
};

describe('migrateArguments', () => {
  it('names the VM by option, brackets an IPv6 address and points to the certificate of this migration', () => {
    const args = migrateArguments(order, '/run/x');
    assert.equal(args[args.indexOf('--domain') + 1], 'vm 1');
    assert.equal(args.at(-1), 'qemu+tls://[2001:db8::1]/system?pkipath=%2Frun%2Fx');
    assert.equal(args[args.indexOf('--migrateuri') + 1], 'tcp://192.0.2.2');
    assert.ok(args.includes('--tls'));
  });

  it('leaves the name to verify and the listening address to QEMU and libvirt unless the order has them', () => {
    const args = migrateArguments(order, '/run/x');
    assert.ok(!args.includes('--tls-destination') && !args.includes('--listen-address'));
    const stream = {
      address: '2001:db8::2',
      listenAddress: '2001:db8::2',
      tlsDestination: 'b.example',
    };
    const more = migrateArguments({ ...order, stream }, '/run/x');
    assert.equal(more[more.indexOf('--tls-destination') + 1], 'b.example');
    assert.equal(more[more.indexOf('--listen-address') + 1], '2001:db8::2');
    assert.equal(more[more.indexOf('--migrateuri') + 1], 'tcp://[2001:db8::2]');
  });
});

describe('parseJobInfo', () => {
  it('reads the progress that virsh domjobinfo prints', () => {
    const text = [
      'Job type:         Unbounded   ',
      'Operation:        Outgoing migration',
      'Data processed:   12.000 MiB',
      'Data remaining:   64.000 MiB',
      'Data total:       128.000 MiB',
      'Memory bandwidth: 32.500 MiB/s',
    ].join('\n');
    assert.deepEqual(parseJobInfo(text), {
      percent: 50,
      processedBytes: 12 * 2 ** 20,
      remainingBytes: 64 * 2 ** 20,
      totalBytes: 128 * 2 ** 20,
      bytesPerSecond: 32.5 * 2 ** 20,
    });
  });

  it('tells no progress where no job runs', () => {
    assert.equal(parseJobInfo('Job type:         None        \n'), undefined);
  });

  it('takes any text, and never says more than all', () => {
    const line = fc.oneof(
      fc.string(),
      fc
        .tuple(fc.constantFrom('Job type', 'Data total', 'Data remaining'), fc.string())
        .map((parts) => parts.join(': ')),
      fc
        .tuple(fc.constantFrom('Data total', 'Data remaining'), fc.nat())
        .map(([key, size]) => `${key}: ${size} KiB`),
    );
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        const progress = parseJobInfo(['Job type: Unbounded', ...lines].join('\n'));
        if (progress !== undefined) assert.ok(progress.percent >= 0 && progress.percent <= 100);
      }),
    );
  });
});

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

describe('hintFor', () => {
  const cases: readonly (readonly [message: string, hint: RegExp])[] = [
    ['Unable to read TLS confirmation: Input/output error', /refuses our client certificate/],
    ["authentication failed: Failed to verify peer's certificate", /does not trust the other/],
    ['Certificate [session] owner does not match the hostname 192.0.2.2', /lacks the address/],
    ["unsupported configuration: guest CPU doesn't match specification: missing features: avx", /CPU/],
    ["unable to connect to server at '192.0.2.2:49152': Connection refused", /49152-49215/],
    ['Unsafe migration: Migration without shared storage is unsafe', /shared storage/],
    ["Cannot access storage file '/images/a.qcow2': No such file or directory", /mount the storage/],
    ["operation failed: domain 'a' already exists with uuid 1", /on the destination already/],
    ['Requested operation is not valid: Attempt to migrate guest to the same host 1', /host UUID/],
    ['something new', /see the logs/],
  ];
  for (const [message, hint] of cases)
    it(`helps with: ${message}`, () => assert.match(hintFor(message), hint));
});

describe('libvirtMessage', () => {
  it("gives virsh's words in full and nothing of its command line", () => {
    const stderr = 'error: first\nerror: second: detail\n';
    const error = new TrustError('command.failed', 'failed', 'cannot run virsh -c x', {
      context: { stderr },
    });
    assert.equal(libvirtMessage(error), 'first\nsecond: detail');
  });
});
