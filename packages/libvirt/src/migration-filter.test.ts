import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import fc from 'fast-check';
import { MigrationFilter, newMigrationCourse } from './migration-filter.ts';
import type { MigrationPolicy } from './migration-policy.ts';
import {
  authList,
  connectClose,
  connectOpen,
  connectSupportsFeature,
  domainDestroy,
  domainGetXmlDesc,
  domainLookupByName,
  domainMigrateBegin3Params,
  domainMigrateFinish3Params,
  domainMigratePerform3Params,
  domainMigratePrepare3Params,
  MIGRATE_FLAGS,
  type Procedure,
  qemuDomainMonitorCommand,
  RPC_PROGRAMS,
} from './migration-protocol.ts';
import { migrationXmlDigest } from './migration-xml.ts';
import { encodePacket, type RpcPacket, RpcPacketReader } from './rpc.ts';
import type { TypedParameter } from './typed-params.ts';
import { decodeWhole } from './xdr-codec.ts';

const UUID = '11111111-2222-4333-8444-555555555555';
const XML = `<domain type='qemu'>\n  <name>web</name>\n  <uuid>${UUID}</uuid>\n</domain>\n`;
const PERSISTENT = `<domain type='qemu'>\n  <name>web</name>\n  <memory>1</memory>\n</domain>`;
const STREAM = 'unix:///run/libvirt/qemu/virt-trust-1/m.tunnelmigrate.dest.web';
const DISKS = 'unix:///run/libvirt/qemu/virt-trust-1/d.tunnelmigrate.dest.web';
const { live, persistDestination, nonSharedDisk, parallel, offline } = MIGRATE_FLAGS;
const FLAGS = live | persistDestination | nonSharedDisk | parallel;

const POLICY: MigrationPolicy = {
  vm: {
    name: 'web',
    uuid: UUID,
    xmlSha256: migrationXmlDigest(XML),
    persistentXmlSha256: migrationXmlDigest(PERSISTENT),
    copiedDisks: ['vda'],
  },
  flags: FLAGS,
  streams: 4,
  streamUri: STREAM,
  disksUri: DISKS,
  mayBegin: () => true,
  digest: migrationXmlDigest,
};

const text = (name: string, value: string): TypedParameter => ({ name, kind: 'string', value });
const PARAMS: readonly TypedParameter[] = [
  text('destination_name', 'web'),
  text('destination_xml', XML),
  text('migrate_uri', STREAM),
];
const cookie = (inner = '', name = 'web', uuid = UUID) =>
  Buffer.from(
    `<qemu-migration>\n  <name>${name}</name>\n  <uuid>${uuid}</uuid>\n  <hostname>a</hostname>\n  <hostuuid>${UUID}</hostuuid>\n${inner}</qemu-migration>\n\0`,
  );
const COOKIE = cookie(
  "  <feature name='lockstate'/>\n  <nbd>\n    <disk target='vda' capacity='1'/>\n  </nbd>\n",
);
const PREPARE = { params: PARAMS, cookieIn: COOKIE, flags: live };
const FINISH = { params: PARAMS, cookieIn: COOKIE, flags: live, cancelled: 0 };

/** A connection of a source's, with libvirt's answers, until it is cut off. */
class Source {
  readonly filter: MigrationFilter;
  readonly passed: RpcPacket[] = [];
  readonly #libvirt = new RpcPacketReader();
  #serial = 0;

  constructor(policy = POLICY, course = newMigrationCourse()) {
    this.filter = new MigrationFilter(policy, course);
  }

  raw(packet: Partial<RpcPacket>): Uint8Array {
    return this.filter.fromSource(
      encodePacket({
        program: RPC_PROGRAMS.remote,
        version: 1,
        procedure: 66,
        type: 0,
        serial: ++this.#serial,
        status: 0,
        payload: new Uint8Array(),
        ...packet,
      }),
    );
  }

  /** Calls, and has libvirt answer with nothing but that it was well. */
  call<Args>({ program, number, args }: Procedure<Args, unknown>, value: Args): void {
    const payload = args.encode(value);
    for (const packet of this.#libvirt.push(this.raw({ program, procedure: number, payload }))) {
      this.passed.push(packet);
      this.filter.fromLibvirt(encodePacket({ ...packet, type: 1, payload: new Uint8Array() }));
    }
  }

  /** As far as a migration opens the connection. */
  opened(): this {
    this.call(authList, {});
    this.call(connectOpen, { uri: 'qemu:///system', flags: 0 });
    return this;
  }
}

const isCutOff = (error: unknown) => isTrustError(error, 'migration.cut_off');

test('after the time of its grant nothing is prepared, and what was prepared before is finished', () => {
  let mayBegin = true;
  const policy = { ...POLICY, mayBegin: () => mayBegin };
  const begun = new Source(policy).opened();
  begun.call(domainMigratePrepare3Params, PREPARE);
  mayBegin = false;
  begun.call(domainMigrateFinish3Params, FINISH);
  assert.equal(begun.passed.at(-1)?.procedure, domainMigrateFinish3Params.number);
  const late = new Source(policy).opened();
  assert.throws(() => late.call(domainMigratePrepare3Params, PREPARE), { code: 'migration.cut_off' });
});

test('what a migration needs passes, byte for byte as it was sent', () => {
  const source = new Source().opened();
  source.call(connectSupportsFeature, { feature: 13 });
  source.call(domainMigratePrepare3Params, PREPARE);
  source.call(domainMigrateFinish3Params, FINISH);
  source.call(connectClose, {});
  assert.deepEqual(
    source.passed.map(({ procedure }) => procedure),
    [66, 1, 60, 303, 306, 2],
  );
  const sent = source.passed[3]?.payload ?? new Uint8Array();
  const prepared = decodeWhole(domainMigratePrepare3Params.args, sent);
  assert.deepEqual(Buffer.from(sent), Buffer.from(domainMigratePrepare3Params.args.encode(PREPARE)));
  assert.equal(prepared.params.length, 3);
});

test('keep-alives pass both ways, at any time', () => {
  const source = new Source();
  const ping = { program: RPC_PROGRAMS.keepalive, procedure: 1, type: 2, serial: 0 };
  assert.equal(source.raw(ping).length, 28);
  const pong = encodePacket({ ...ping, version: 1, procedure: 2, status: 0, payload: new Uint8Array() });
  assert.deepEqual(source.filter.fromLibvirt(pong), pong);
});

test('every option that was granted passes', () => {
  const source = new Source().opened();
  source.call(domainMigratePrepare3Params, {
    cookieIn: COOKIE,
    flags: FLAGS,
    params: [
      ...PARAMS,
      text('disks_uri', DISKS),
      text('migrate_disks', 'vda'),
      text('compression', 'xbzrle'),
      text('compression', 'mt'),
      { name: 'parallel.connections', kind: 'int', value: 4 },
      { name: 'bandwidth', kind: 'ullong', value: 100n },
      text('persistent_xml', PERSISTENT),
    ],
  });
  const indented = PERSISTENT.replaceAll('\n', '\n  ');
  source.call(domainMigrateFinish3Params, { ...FINISH, cookieIn: cookie(`  ${indented}\n`), cancelled: 1 });
  assert.equal(source.passed.length, 4);
});

const domain = { name: 'web', uuid: UUID, id: -1 };
const hostile: readonly (readonly [string, (source: Source) => void])[] = [
  ['asks for the XML of the VM', (s) => s.call(domainGetXmlDesc, { domain, flags: 1 })],
  ['looks for another VM', (s) => s.call(domainLookupByName, { name: 'db' })],
  ['destroys the VM', (s) => s.call(domainDestroy, { domain })],
  ['speaks to QEMU', (s) => s.call(qemuDomainMonitorCommand, { domain, command: '{}', flags: 0 })],
  [
    'begins a migration from here',
    (s) => s.call(domainMigrateBegin3Params, { domain, params: [], flags: 1 }),
  ],
  [
    'performs a migration from here',
    (s) =>
      s.call(domainMigratePerform3Params, {
        domain,
        destinationUri: null,
        params: [],
        cookieIn: COOKIE,
        flags: 1,
      }),
  ],
  ['prepares by the old procedure', (s) => s.raw({ procedure: 217 })],
  ['prepares a tunnel', (s) => s.raw({ procedure: 304 })],
  ['registers for events', (s) => s.raw({ procedure: 316 })],
  ['opens a stream', (s) => s.raw({ procedure: 303, type: 3 })],
  ['sends a call with file descriptors', (s) => s.raw({ procedure: 303, type: 4 })],
  ['sends an answer', (s) => s.raw({ procedure: 303, type: 1 })],
  ['speaks the program for administrators', (s) => s.raw({ program: 0x06900690, procedure: 1 })],
  ['speaks the program of lxc', (s) => s.raw({ program: 0x20008088, procedure: 1 })],
  ['authenticates by SASL', (s) => s.raw({ procedure: 68 })],
  ['has another version', (s) => s.raw({ procedure: 2, version: 2 })],
  ['has a status', (s) => s.raw({ procedure: 2, status: 1 })],
  [
    'hides something in a keep-alive',
    (s) =>
      s.raw({ program: RPC_PROGRAMS.keepalive, procedure: 1, type: 2, serial: 0, payload: Buffer.alloc(4) }),
  ],
  ['uses a serial number twice', (s) => s.raw({ procedure: 60, serial: 1, payload: Buffer.alloc(4) })],
  ['opens another connection', (s) => s.call(connectOpen, { uri: 'qemu:///system', flags: 0 })],
  ['asks for authentication again', (s) => s.call(authList, {})],
  ['finishes what it did not prepare', (s) => s.call(domainMigrateFinish3Params, FINISH)],
  [
    'goes on after it closed',
    (s) => {
      s.call(connectClose, {});
      s.call(connectSupportsFeature, { feature: 1 });
    },
  ],
  [
    'prepares twice',
    (s) => {
      s.call(domainMigratePrepare3Params, PREPARE);
      s.call(domainMigratePrepare3Params, PREPARE);
    },
  ],
  [
    'calls without waiting for answers',
    (s) => {
      for (let call = 0; call < 20; call++) s.raw({ procedure: 60, payload: Buffer.alloc(4) });
    },
  ],
  ['leaves something over', (s) => s.raw({ procedure: 60, payload: Buffer.alloc(8) })],
  ['ends too early', (s) => s.raw({ procedure: 60, payload: Buffer.alloc(2) })],
  ['sends a packet without end', (s) => s.filter.fromSource(Buffer.from([0x7f, 0xff, 0xff, 0xff]))],
  ['sends a packet shorter than its header', (s) => s.filter.fromSource(Buffer.from([0, 0, 0, 8]))],
];

for (const [what, attack] of hostile) {
  test(`a source that ${what} is cut off`, () => {
    const source = new Source().opened();
    assert.throws(() => attack(source), isCutOff);
  });
}

for (const [what, uri, flags] of [
  ['another driver', 'lxc:///system', 0],
  ['the test driver', 'test:///default', 0],
  ['a session', 'qemu:///session', 0],
  ['a third host', 'qemu+tcp://192.0.2.1/system', 0],
  ['no URI', null, 0],
  ['reading alone', 'qemu:///system', 1],
] as const) {
  test(`a source that opens ${what} is cut off`, () => {
    const source = new Source();
    source.call(authList, {});
    assert.throws(() => source.call(connectOpen, { uri, flags }), isCutOff);
  });
}

test('a source that does anything before it opened is cut off', () => {
  assert.throws(() => new Source().call(domainMigratePrepare3Params, PREPARE), isCutOff);
  assert.throws(() => new Source().call(connectOpen, { uri: 'qemu:///system', flags: 0 }), isCutOff);
});

const but = (name: string, ...instead: readonly TypedParameter[]) => [
  ...PARAMS.filter((one) => one.name !== name),
  ...instead,
];
const changed: readonly (readonly [string, Partial<typeof PREPARE>])[] = [
  ['another name', { params: but('destination_name', text('destination_name', 'db')) }],
  ['another XML', { params: but('destination_xml', text('destination_xml', XML.replace('qemu', 'kvm'))) }],
  ['no XML', { params: but('destination_xml') }],
  ['XML twice', { params: [...PARAMS, text('destination_xml', XML)] }],
  ['another persistent XML', { params: [...PARAMS, text('persistent_xml', XML)] }],
  ['another socket', { params: but('migrate_uri', text('migrate_uri', 'unix:///run/other')) }],
  ['a TCP port', { params: but('migrate_uri', text('migrate_uri', 'tcp://0.0.0.0:49152')) }],
  ['no URI', { params: but('migrate_uri') }],
  ['a command', { params: but('migrate_uri', text('migrate_uri', 'exec:id')) }],
  [
    'another socket for disks',
    { params: [...PARAMS, text('disks_uri', 'unix:///run/libvirt/libvirt-sock')] },
  ],
  ['disks over TCP', { params: [...PARAMS, { name: 'disks_port', kind: 'int', value: 49153 }] }],
  ['a listening address', { params: [...PARAMS, text('listen_address', '0.0.0.0')] }],
  [
    'a disk that was not granted',
    { params: [...PARAMS, text('disks_uri', DISKS), text('migrate_disks', 'vdb')] },
  ],
  ['a disk without the socket', { params: [...PARAMS, text('migrate_disks', 'vda')] }],
  ['disks without the socket', { flags: live | nonSharedDisk }],
  ['a parameter of no known name', { params: [...PARAMS, text('x', 'y')] }],
  [
    'a parameter of another type',
    { params: but('destination_name', { name: 'destination_name', kind: 'int', value: 1 }) },
  ],
  ['too many connections', { params: [...PARAMS, { name: 'parallel.connections', kind: 'int', value: 5 }] }],
  ['no connection', { params: [...PARAMS, { name: 'parallel.connections', kind: 'int', value: 0 }] }],
  ['another compression', { params: [...PARAMS, text('compression', 'gzip')] }],
  ['peer-to-peer', { flags: live | MIGRATE_FLAGS.peerToPeer }],
  ['a tunnel', { flags: live | MIGRATE_FLAGS.tunnelled }],
  ['offline without that it was granted', { flags: offline }],
  ['unsafe', { flags: live | MIGRATE_FLAGS.unsafe }],
  ['the highest flag', { flags: 0x8000_0001 }],
  ['a cookie of another VM', { cookieIn: cookie('', 'db') }],
  ['a cookie of another UUID', { cookieIn: cookie('', 'web', '22222222-2222-4333-8444-555555555555') }],
  ['a cookie with another persistent XML', { cookieIn: cookie(XML) }],
  ['a cookie with two persistent XMLs', { cookieIn: cookie(PERSISTENT + PERSISTENT) }],
  ['a cookie with CDATA', { cookieIn: cookie('<cpu><![CDATA[</cpu><domain/>]]></cpu>') }],
  ['a cookie with an entity', { cookieIn: Buffer.from(`<!DOCTYPE q [<!ENTITY d "x">]>${cookie()}`) }],
  ['a cookie with an instruction', { cookieIn: cookie('<?x <domain/>?>') }],
  ['a cookie with something else', { cookieIn: cookie('<other/>') }],
  ['a cookie with a NUL in it', { cookieIn: Buffer.concat([cookie(), cookie()]) }],
  ['a cookie without its NUL', { cookieIn: cookie().subarray(0, -1) }],
  ['a cookie that is no XML', { cookieIn: Buffer.from('cookie\0') }],
  ['a cookie that is not UTF-8', { cookieIn: Buffer.from([0xff, 0]) }],
];

for (const [what, change] of changed) {
  test(`a source that prepares with ${what} is cut off, and so is one that finishes with it`, () => {
    const source = new Source().opened();
    assert.throws(() => source.call(domainMigratePrepare3Params, { ...PREPARE, ...change }), isCutOff);
    assert.equal(source.passed.length, 2);
  });
}

test('persistent XML is refused where none was granted', () => {
  const policy = { ...POLICY, vm: { ...POLICY.vm, persistentXmlSha256: null } };
  const source = new Source(policy).opened();
  const cookieIn = cookie(PERSISTENT);
  assert.throws(() => source.call(domainMigratePrepare3Params, { ...PREPARE, cookieIn }), isCutOff);
});

test('a grant is prepared once, whichever connection asks', () => {
  const course = newMigrationCourse();
  new Source(POLICY, course).opened().call(domainMigratePrepare3Params, PREPARE);
  const second = new Source(POLICY, course).opened();
  assert.throws(() => second.call(domainMigratePrepare3Params, PREPARE), isCutOff);
  // One that lost its first connection may still end what it began.
  new Source(POLICY, course).opened().call(domainMigrateFinish3Params, { ...FINISH, cancelled: 1 });
});

test('libvirt’s events do not reach the source, nor answers that nobody asked for', () => {
  const source = new Source().opened();
  const event = { program: RPC_PROGRAMS.remote, version: 1, procedure: 107, type: 2, serial: 0, status: 0 };
  assert.equal(source.filter.fromLibvirt(encodePacket({ ...event, payload: Buffer.alloc(8) })).length, 0);
  const answer = { ...event, procedure: 66, type: 1, serial: 77, payload: new Uint8Array() };
  assert.throws(() => source.filter.fromLibvirt(encodePacket(answer)), isCutOff);
});

test('packets pass however their bytes are cut', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 50 }), (sizes) => {
      const source = new Source().opened();
      const whole = encodePacket({
        program: RPC_PROGRAMS.remote,
        version: 1,
        procedure: domainMigratePrepare3Params.number,
        type: 0,
        serial: 9,
        status: 0,
        payload: domainMigratePrepare3Params.args.encode(PREPARE),
      });
      const out: Uint8Array[] = [];
      for (let at = 0, next = 0; at < whole.length; next++) {
        const size = sizes[next % sizes.length] ?? 1;
        out.push(source.filter.fromSource(whole.subarray(at, at + size)));
        at += size;
      }
      assert.deepEqual(Buffer.concat(out), whole);
    }),
  );
});

test('bytes of any kind are cut off or lead to nothing but what may pass', () => {
  const permitted = new Set([66, 1, 60, 303, 306, 2]);
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          fc.uint8Array({ maxLength: 80 }),
          fc
            .record({
              program: fc.constantFrom(RPC_PROGRAMS.remote, RPC_PROGRAMS.qemu, RPC_PROGRAMS.keepalive, 7),
              version: fc.constantFrom(1, 2),
              procedure: fc.oneof(fc.constantFrom(...permitted), fc.nat(500)),
              type: fc.nat(5),
              serial: fc.nat(50),
              status: fc.nat(2),
              payload: fc.oneof(
                fc.uint8Array({ maxLength: 64 }),
                fc.constant(domainMigratePrepare3Params.args.encode(PREPARE)),
                fc.constant(connectOpen.args.encode({ uri: 'qemu:///system', flags: 0 })),
              ),
            })
            .map((packet) => encodePacket(packet)),
        ),
        { maxLength: 12 },
      ),
      (chunks) => {
        const filter = new MigrationFilter(POLICY, newMigrationCourse());
        const libvirt = new RpcPacketReader();
        try {
          for (const chunk of chunks)
            for (const { program, procedure } of libvirt.push(filter.fromSource(chunk)))
              assert.ok(
                program === RPC_PROGRAMS.keepalive ||
                  (program === RPC_PROGRAMS.remote && permitted.has(procedure)),
              );
        } catch (error) {
          assert.ok(isCutOff(error), String(error));
        }
      },
    ),
    { numRuns: 500 },
  );
});

test('one byte changed in a call never makes libvirt prepare something else', () => {
  const payload = domainMigratePrepare3Params.args.encode(PREPARE);
  fc.assert(
    fc.property(fc.nat(payload.length - 1), fc.integer({ min: 1, max: 255 }), (at, by) => {
      const bent = Buffer.from(payload);
      bent[at] = (bent[at] ?? 0) ^ by;
      const source = new Source().opened();
      try {
        const passed = source.raw({ procedure: domainMigratePrepare3Params.number, payload: bent });
        const [packet] = new RpcPacketReader().push(passed);
        const { params, flags } = decodeWhole(
          domainMigratePrepare3Params.args,
          packet?.payload ?? new Uint8Array(),
        );
        const valueNamed = (name: string) => params.find((one) => one.name === name)?.value;
        assert.equal(migrationXmlDigest(String(valueNamed('destination_xml'))), POLICY.vm.xmlSha256);
        assert.equal(valueNamed('migrate_uri'), STREAM);
        assert.equal((flags & ~FLAGS) >>> 0, 0);
      } catch (error) {
        assert.ok(isCutOff(error), String(error));
      }
    }),
    { numRuns: 1000 },
  );
});
