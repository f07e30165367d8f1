import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { testMigrationOptions } from '@virt-trust/contract/model/fixtures.ts';
import type { MigrationOptions } from '@virt-trust/contract/model/migration-options.ts';
import type { Finding } from '@virt-trust/contract/model/preflight.ts';
import fc from 'fast-check';
import { type DestinationFacts, destinationFindings } from './destination-checks.ts';
import { optionFindings } from './option-checks.ts';
import { type SourceVm, sourceFindings } from './source-checks.ts';
import { parseBlockInfo } from './source-vm.ts';
import { vmNeedsOf } from './vm-needs.ts';

const UUID = '2f4f6a3e-0000-4000-8000-000000000001';
const DISK = '/var/lib/libvirt/images/guest.qcow2';

const domain = (devices = '', more = '') => `<domain type='kvm' id='3'>
  <name>guest</name><uuid>${UUID}</uuid><title>&lt;hostdev/&gt;</title>
  <memory unit='KiB'>2097152</memory>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type>${more}</os>
  <cpu mode='custom'/>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>${devices}</devices>
</domain>`;

const disk = (more = '', source = DISK) =>
  `<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='${source}'/><target dev='vda' bus='virtio'/>${more}</disk>`;

const codes = (findings: readonly Finding[]) => findings.map(({ severity, code }) => `${severity} ${code}`);

const pair = { own: 'a', peer: 'b' };

describe('a VM on its source', () => {
  const vm = (devices = '', more: Partial<SourceVm> = {}): SourceVm => ({
    needs: vmNeedsOf(domain(devices)),
    state: 'running',
    snapshots: 0,
    busy: false,
    sharedPaths: new Set([DISK]),
    ...more,
  });
  const cases: readonly (readonly [
    title: string,
    vm: SourceVm,
    options: Partial<MigrationOptions>,
    expected: readonly string[],
  ])[] = [
    ['may leave where nothing speaks against it', vm(disk()), {}, []],
    ['must run for its memory to be migrated', vm('', { state: 'shut off' }), {}, ['error vm.not_running']],
    [
      'may be off where its definition alone goes',
      vm('', { state: 'shut off' }),
      { offline: true, persistent: true },
      [],
    ],
    [
      'is off where its definition alone goes: beside one that runs it could be started again',
      vm(''),
      { offline: true, persistent: true },
      ['error vm.running'],
    ],
    [
      'is not left nowhere',
      vm('', { state: 'shut off' }),
      { offline: true },
      ['error option.offline_persistent'],
    ],
    [
      'has its disks copied only while it runs',
      vm('', { state: 'shut off' }),
      { offline: true, persistent: true, copyStorage: 'all' },
      ['error option.offline_storage'],
    ],
    ['has no snapshots', vm('', { snapshots: 2 }), {}, ['error vm.snapshots']],
    ['is not worked on', vm('', { busy: true }), {}, ['error vm.busy']],
    ['may be paused', vm('', { state: 'paused' }), {}, []],
    [
      'has no PCI device of the host',
      vm("<hostdev mode='subsystem' type='pci' managed='yes'/>"),
      {},
      ['error device.immovable'],
    ],
    [
      'may have one that is unplugged for the migration',
      vm("<hostdev mode='subsystem' type='pci'><teaming type='transient' persistent='ua-1'/></hostdev>"),
      {},
      [],
    ],
    ['has no card of the host', vm("<interface type='hostdev'/>"), {}, ['error device.immovable']],
    ['loses a USB device', vm("<hostdev mode='subsystem' type='usb'/>"), {}, ['warning device.usb']],
    [
      'shares no directory over virtiofs',
      vm("<filesystem type='mount'><driver type='virtiofs'/></filesystem>"),
      {},
      ['error device.immovable'],
    ],
    [
      'has no old shared memory',
      vm("<shmem name='x'><model type='ivshmem'/></shmem>"),
      {},
      ['error device.immovable'],
    ],
    [
      'has its disk where the other host has it, too',
      vm(disk(), { sharedPaths: new Set() }),
      {},
      ['error disk.not_shared'],
    ],
    ['may have its local disk copied', vm(disk(), { sharedPaths: new Set() }), { copyStorage: 'all' }, []],
    [
      'has all local disks copied, not others alone',
      vm(disk(), { sharedPaths: new Set() }),
      { copyStorage: 'all', copyDisks: ['vdb'] },
      ['error disk.unknown', 'error disk.not_shared'],
    ],
    [
      'may be migrated unsafely where that is asked for',
      vm(disk(), { sharedPaths: new Set() }),
      { flags: 512 },
      ['warning disk.not_shared'],
    ],
    ['may have a local disk that nobody writes', vm(disk('<readonly/>'), { sharedPaths: new Set() }), {}, []],
    ['has no transient disk', vm(disk('<transient/>')), {}, ['error disk.transient']],
    [
      'had better flush its caches',
      vm(disk().replace("type='qcow2'/>", "type='qcow2' cache='unsafe'/>")),
      {},
      ['warning disk.cache_unsafe'],
    ],
  ];
  for (const [title, seen, options, expected] of cases)
    it(title, () => {
      const findings = sourceFindings(seen, testMigrationOptions(options), pair);
      assert.deepEqual(codes(findings), expected);
      assert.ok(findings.every(({ host, what, fix }) => host === 'a' && what !== '' && fix !== ''));
    });
});

describe('a destination', () => {
  const GOOD: DestinationFacts = {
    sameUuid: null,
    sameName: null,
    paths: new Set([DISK]),
    troubles: new Map(),
    images: new Map(),
    pools: new Set(),
    freeBytes: new Map([['/var/lib/libvirt/images', 10 * 2 ** 30]]),
    links: new Set(),
    machineRefused: null,
    cpuRefused: null,
    availableMemoryBytes: 2 ** 40,
  };
  const pool = { paths: new Set<string>(), pools: new Set(['/var/lib/libvirt/images']) };
  const sized = (allocatedBytes: number, capacityBytes: number) => [
    { target: 'vda', allocatedBytes, capacityBytes },
  ];
  const cdrom = (policy: string) =>
    `<disk type='file' device='cdrom'><source file='/srv/a.iso' startupPolicy='${policy}'/><target dev='hda' bus='ide'/><readonly/></disk>`;
  const bridge = "<interface type='bridge'><source bridge='br7'/></interface>";
  const network = "<interface type='network'><source network='default'/></interface>";
  const cases: readonly (readonly [
    title: string,
    xml: string,
    facts: Partial<DestinationFacts>,
    asked: { options?: Partial<MigrationOptions>; disks?: ReturnType<typeof sized> },
    expected: readonly string[],
  ])[] = [
    ['takes what it has all for', domain(disk()), {}, {}, []],
    ['has the disk', domain(disk()), { paths: new Set() }, {}, ['error disk.missing']],
    [
      'needs no disk for a definition',
      domain(disk()),
      { paths: new Set() },
      { options: { offline: true } },
      [],
    ],
    [
      'has a pool in which libvirt makes a copied disk',
      domain(disk()),
      { paths: new Set() },
      { options: { copyStorage: 'all' } },
      ['error disk.not_made'],
    ],
    [
      'makes a copied disk in its pool',
      domain(disk()),
      pool,
      { options: { copyStorage: 'all' }, disks: sized(1, 2) },
      [],
    ],
    [
      'has the base of what is copied in part',
      domain(disk()),
      pool,
      { options: { copyStorage: 'inc' } },
      ['error disk.not_made'],
    ],
    [
      'has room for what a disk holds',
      domain(disk()),
      pool,
      { options: { copyStorage: 'all' }, disks: sized(20 * 2 ** 30, 40 * 2 ** 30) },
      ['error disk.space'],
    ],
    [
      'had better have room for what it may become',
      domain(disk()),
      pool,
      { options: { copyStorage: 'all' }, disks: sized(2 ** 30, 40 * 2 ** 30) },
      ['warning disk.space'],
    ],
    [
      'shows its disks to QEMU’s user',
      domain(disk()),
      {
        troubles: new Map([
          [DISK, [{ code: 'disk.unreadable', text: '/var: closed', remedy: 'chmod o+x /var' }]],
        ]),
      },
      {},
      ['error disk.unreadable'],
    ],
    [
      'may lack the medium of a drive that may be empty',
      domain(cdrom('optional')),
      { paths: new Set() },
      {},
      ['note disk.left_out'],
    ],
    [
      'may lack what is wanted at a start alone',
      domain(cdrom('requisite')),
      { paths: new Set() },
      {},
      ['note disk.left_out'],
    ],
    [
      'has a medium that must be there',
      domain(cdrom('mandatory')),
      { paths: new Set() },
      {},
      ['error disk.missing'],
    ],
    [
      'has a disk that is optional at a start alone',
      domain(disk().replace("qcow2'/><target", "qcow2' startupPolicy='optional'/><target")),
      { paths: new Set() },
      {},
      ['error disk.missing'],
    ],
    [
      'has an image as large as the disk that is copied onto it',
      domain(disk()),
      { images: new Map([[DISK, { format: 'qcow2', bytes: 512, base: null }]]) },
      { options: { copyStorage: 'all' }, disks: sized(1, 1024) },
      ['error disk.other_size'],
    ],
    [
      'has an image of the same format for it',
      domain(disk()),
      { images: new Map([[DISK, { format: 'other', bytes: 1024, base: null }]]) },
      { options: { copyStorage: 'inc' }, disks: sized(1, 1024) },
      ['error disk.other_format'],
    ],
    [
      'has the right image for it',
      domain(disk()),
      { images: new Map([[DISK, { format: 'qcow2', bytes: 1000, base: null }]]) },
      { options: { copyStorage: 'all' }, disks: sized(1, 1024) },
      [],
    ],
    [
      'has the same image under the path where nothing is copied',
      domain(disk()),
      { images: new Map([[DISK, { format: 'other', bytes: 1024, base: null }]]) },
      { disks: sized(1, 1024) },
      ['error disk.other_format'],
    ],
    [
      'had better have an image of the same size there, which libvirt does not look at',
      domain(disk()),
      { images: new Map([[DISK, { format: 'qcow2', bytes: 2048, base: null }]]) },
      { disks: sized(1, 1024) },
      ['warning disk.other_size'],
    ],
    [
      'may have anything in a raw image of the same size',
      domain(disk().replace("type='qcow2'", "type='raw'")),
      { images: new Map([[DISK, { format: 'qcow2', bytes: 1024, base: null }]]) },
      { disks: sized(1, 1024) },
      [],
    ],
    ['needs no bridge for a definition alone', domain(bridge), {}, { options: { offline: true } }, []],
    ['has its bridge', domain(bridge), {}, {}, ['error bridge.missing']],
    ['has its bridge, and takes it', domain(bridge), { links: new Set(['bridge br7']) }, {}, []],
    [
      'has its network',
      domain(network),
      { links: new Set(['bridge default']) },
      {},
      ['error network.missing'],
    ],
    [
      'has its firmware',
      domain('', '<loader type="pflash">/usr/share/OVMF/OVMF_CODE.fd</loader>'),
      {},
      {},
      ['error boot.missing'],
    ],
    [
      'does not run it already',
      domain(),
      { sameUuid: { name: 'guest', active: true }, sameName: UUID },
      {},
      ['error vm.already_there'],
    ],
    ['may have it defined', domain(), { sameUuid: { name: 'guest', active: false }, sameName: UUID }, {}, []],
    [
      'has it under no other name',
      domain(),
      { sameUuid: { name: 'other', active: false } },
      {},
      ['error vm.other_name'],
    ],
    [
      'has no other VM of its name',
      domain(),
      { sameName: UUID.replace('1', '2') },
      {},
      ['error vm.name_taken'],
    ],
    [
      'knows its machine type',
      domain(),
      { machineRefused: 'no such machine' },
      {},
      ['error vm.machine_type'],
    ],
    ['has its CPU', domain(), { cpuRefused: 'lacks avx512f' }, {}, ['error vm.cpu']],
    [
      'had better have a CPU that libvirt does not compare',
      domain().replace("<cpu mode='custom'/>", "<cpu mode='custom' check='none'><model>x</model></cpu>"),
      { cpuRefused: 'lacks avx512f' },
      {},
      ['warning vm.cpu'],
    ],
    [
      'had better be the same machine for a CPU that is passed through',
      domain().replace("mode='custom'", "mode='host-passthrough'"),
      {},
      {},
      ['warning vm.cpu_passthrough'],
    ],
    [
      'had better have memory for it',
      domain(),
      { availableMemoryBytes: 2 ** 30 },
      {},
      ['warning memory.short'],
    ],
  ];
  for (const [title, xml, facts, { options = {}, disks = [] }, expected] of cases)
    it(title, () => {
      const asked = { options: testMigrationOptions(options), disks, own: 'b', peer: 'a' };
      const findings = destinationFindings(vmNeedsOf(xml), { ...GOOD, ...facts }, asked);
      assert.deepEqual(codes(findings), expected);
      assert.ok(findings.every(({ host, what, fix }) => host === 'b' && what !== '' && fix !== ''));
    });
});

describe('options of a migration', () => {
  const facts = { libvirtVersion: '9.0.0', qemuVersion: '7.2.22', userfaultfd: true };
  const cases: readonly (readonly [
    title: string,
    options: Partial<MigrationOptions>,
    role: 'source' | 'destination',
    facts: Partial<typeof facts>,
    expected: readonly string[],
  ])[] = [
    ['are as they are', {}, 'destination', { userfaultfd: false }, []],
    [
      'need userfaultfd for post-copy',
      { postCopy: true },
      'destination',
      { userfaultfd: false },
      ['error option.userfaultfd'],
    ],
    ['need it at the destination alone', { postCopy: true }, 'source', { userfaultfd: false }, []],
    [
      'need it where a timeout goes over to post-copy',
      { timeoutSeconds: 60, timeoutAction: 'post-copy' },
      'destination',
      { userfaultfd: false },
      ['error option.userfaultfd'],
    ],
    [
      'need it where raw flags ask for post-copy',
      { flags: 32768 },
      'destination',
      { userfaultfd: false },
      ['error option.userfaultfd'],
    ],
    [
      'have no post-copy of many streams with an old QEMU',
      { postCopy: true, parallel: 2 },
      'source',
      {},
      ['error option.parallel_post_copy'],
    ],
    ['have it with a new one', { postCopy: true, parallel: 2 }, 'source', { qemuVersion: '10.1.0' }, []],
    [
      'have no zstd with an old libvirt',
      { compression: 'zstd', parallel: 2 },
      'source',
      {},
      ['error option.compression'],
    ],
    [
      'have zstd for many streams alone',
      { compression: 'zstd' },
      'source',
      { libvirtVersion: '10.0.0' },
      ['error option.compression_parallel'],
    ],
    [
      'have xbzrle for one stream alone',
      { compression: 'xbzrle', parallel: 4 },
      'source',
      {},
      ['warning option.compression_parallel'],
    ],
  ];
  for (const [title, options, role, more, expected] of cases)
    it(title, () => {
      const findings = optionFindings(
        testMigrationOptions(options),
        { role, own: 'a', mode: 'tls' },
        { ...facts, ...more },
      );
      assert.deepEqual(codes(findings), expected);
    });

  it('have no memory sent without copying it but in the clear', () => {
    const options = testMigrationOptions({ flags: 1_048_576, parallel: 2 });
    const of = (mode: 'tls' | 'pinned' | 'plain') =>
      codes(optionFindings(options, { role: 'source', own: 'a', mode }, facts));
    assert.deepEqual(of('tls'), ['error option.zero_copy']);
    assert.deepEqual(of('pinned'), ['error option.zero_copy']);
    assert.deepEqual(of('plain'), []);
  });
});

describe("a VM's needs", () => {
  it('are read whatever its owner wrote, or refused', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 60 }), (text) => {
        const escaped = text.replaceAll(/[&<>\0]/g, '');
        assert.equal(vmNeedsOf(domain('', `<x>${escaped}</x>`)).immovable.length, 0);
      }),
    );
  });

  it('have sizes of disks as virsh prints them', () => {
    const text =
      ' Target   Capacity     Allocation   Physical\n-----\n vda      10737418240  1048576      1048576\n sda      -            -            -\n';
    assert.deepEqual(parseBlockInfo(text), [
      { target: 'vda', capacityBytes: 10_737_418_240, allocatedBytes: 1_048_576 },
    ]);
  });

  it('have memory in whichever unit', () => {
    assert.equal(vmNeedsOf(domain()).memoryBytes, 2 ** 31);
    assert.equal(vmNeedsOf("<domain><memory unit='GiB'>3</memory></domain>").memoryBytes, 3 * 2 ** 30);
    assert.equal(vmNeedsOf('<domain/>').memoryBytes, 0);
  });
});
