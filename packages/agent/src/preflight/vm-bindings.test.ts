import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type BindingsFacts, bindingsFindings } from './bindings-checks.ts';
import { idsOf } from './vm-bindings.ts';
import { vmNeedsOf } from './vm-needs.ts';

const domain = (more: string, devices = '') => `<domain type='kvm'>
  <name>guest one</name><memory unit='MiB'>64</memory>${more}
  <os><type arch='x86_64' machine='pc'>hvm</type></os><devices>${devices}</devices>
</domain>`;

const [MINE, OTHER, EMPTY] = ['1', '2', '3'].map((digit) => `${digit.repeat(8)}-2222-3333-4444-555555555555`);

const GOOD: BindingsFacts = {
  onlineCpus: new Set([0, 1, 2, 3]),
  numaNodes: new Set([0]),
  secrets: new Map([
    [MINE ?? '', 'volume /srv/mine.img'],
    [EMPTY ?? '', 'ceph client.empty secret'],
  ]),
  valueless: new Set([EMPTY ?? '']),
  tpm: { isEmulated: true, versions: new Set(['2.0']) },
};

const tuned = (tune: string, vcpu = '<vcpu>2</vcpu>') => domain(`${vcpu}<cputune>${tune}</cputune>`);
const luks = (secret: string, format = 'luks') =>
  domain(
    '',
    `<disk type='file'><source file='/srv/x.img'><encryption format='${format}'><secret type='passphrase' ${secret}/></encryption></source><target dev='vda'/></disk>`,
  );
const network = (protocol: string, secret: string) =>
  domain(
    '',
    `<disk type='network'><source protocol='${protocol}' name='pool/x'><auth username='libvirt'><secret ${secret}/></auth></source><target dev='vda'/></disk>`,
  );
const tpm = (backend: string, inside = '') =>
  domain('', `<tpm model='tpm-crb'><backend ${backend}>${inside}</backend></tpm>`);

describe('what a VM names of its host, at its destination', () => {
  const cases: readonly (readonly [
    title: string,
    xml: string,
    facts: Partial<BindingsFacts>,
    expected: readonly string[],
  ])[] = [
    ['is nothing where it names nothing', domain('<vcpu>8</vcpu>'), {}, []],
    ['has a CPU of each pinning', tuned("<vcpupin vcpu='1' cpuset='4-7'/>"), {}, ['vm.pinning']],
    ['need not have all of them', tuned("<vcpupin vcpu='1' cpuset='3-7'/>"), {}, []],
    ['has one for the emulator', tuned("<emulatorpin cpuset='5'/>"), {}, ['vm.pinning']],
    [
      'has one for each I/O thread',
      domain("<iothreads>1</iothreads><cputune><iothreadpin iothread='1' cpuset='5'/></cputune>"),
      {},
      ['vm.pinning'],
    ],
    [
      'has one for I/O threads with numbers of their own',
      domain(
        "<iothreadids><iothread id='7'/></iothreadids><cputune><iothreadpin iothread='7' cpuset='5'/></cputune>",
      ),
      {},
      ['vm.pinning'],
    ],
    ['has one for what is pinned as a whole', domain("<vcpu cpuset='6,7'>1</vcpu>"), {}, ['vm.pinning']],
    [
      'asks for none of it where each has its own',
      tuned("<vcpupin vcpu='0' cpuset='1'/><emulatorpin cpuset='0'/>", "<vcpu cpuset='6,7'>1</vcpu>"),
      {},
      [],
    ],
    [
      'asks for none where the vCPU is not plugged in',
      tuned("<vcpupin vcpu='1' cpuset='7'/>", "<vcpu current='1'>2</vcpu>"),
      {},
      [],
    ],
    [
      'goes by each vCPU where they are told one by one',
      tuned(
        "<vcpupin vcpu='1' cpuset='7'/>",
        "<vcpu current='1'>2</vcpu><vcpus><vcpu id='0' enabled='no'/><vcpu id='1' enabled='yes'/></vcpus>",
      ),
      {},
      ['vm.pinning'],
    ],
    ['is not asked for CPUs that nobody told', tuned("<emulatorpin cpuset='5'/>"), { onlineCpus: null }, []],
    [
      'has each NUMA node',
      domain("<numatune><memory mode='preferred' nodeset='0-1'/></numatune>"),
      {},
      ['vm.numa'],
    ],
    ['has the node that it has', domain("<numatune><memory mode='strict' nodeset='0'/></numatune>"), {}, []],
    [
      'has the nodes of the guest’s own nodes',
      domain("<numatune><memnode cellid='0' mode='strict' nodeset='2'/></numatune>"),
      {},
      ['vm.numa'],
    ],
    [
      'has the nodes of a memory device',
      domain('', "<memory model='dimm'><source><nodemask>1</nodemask></source></memory>"),
      {},
      ['vm.numa'],
    ],
    [
      'chooses nodes by itself where it shall',
      domain("<numatune><memory mode='strict' placement='auto' nodeset='3'/></numatune>"),
      {},
      [],
    ],
    [
      'is not asked for nodes that nobody told',
      domain("<numatune><memory nodeset='3'/></numatune>"),
      { numaNodes: null },
      [],
    ],
    ['has the secret of a disk', luks(`uuid='${MINE}'`), {}, []],
    ['lacks the secret of a disk', luks(`uuid='${OTHER}'`), {}, ['secret.missing']],
    ['lacks one that is known by its usage', luks("usage='/srv/other.img'"), {}, ['secret.missing']],
    ['has one that is known by its usage', luks("usage='/srv/mine.img'"), {}, []],
    ['needs none for what QEMU does not decrypt', luks(`uuid='${OTHER}'`, 'qcow'), {}, []],
    ['has one without a value', network('rbd', `type='ceph' uuid='${EMPTY}'`), {}, ['secret.no_value']],
    [
      'has one of that usage without a value',
      network('rbd', "type='ceph' usage='client.empty secret'"),
      {},
      ['secret.no_value'],
    ],
    ['takes no usage for another', network('iscsi', "usage='/srv/mine.img'"), {}, ['secret.missing']],
    ['needs none for a protocol without one', network('nbd', `uuid='${OTHER}'`), {}, []],
    ['is not asked for secrets that nobody told', luks(`uuid='${OTHER}'`), { secrets: null }, []],
    [
      'has those of images below',
      domain(
        '',
        `<disk type='file'><source file='/srv/x.img'/><backingStore type='file'><source file='/srv/y.img'><encryption format='luks'><secret uuid='${OTHER}'/></encryption></source></backingStore><target dev='vda'/></disk>`,
      ),
      {},
      ['secret.missing'],
    ],
    ['has an emulated TPM', tpm("type='emulator' version='2.0'"), {}, []],
    ['has none of that version', tpm("type='emulator' version='1.2'"), {}, ['vm.tpm']],
    [
      'has no emulator',
      tpm("type='emulator' version='2.0'"),
      { tpm: { isEmulated: false, versions: null } },
      ['vm.tpm'],
    ],
    ['is not asked for an emulator that nobody told', tpm("type='emulator'"), { tpm: null }, []],
    ['is asked for no emulator of a real one', tpm("type='passthrough'"), { tpm: null }, []],
    [
      'has the secret of a TPM',
      tpm("type='emulator'", `<encryption secret='${OTHER}'/>`),
      {},
      ['secret.missing'],
    ],
  ];
  for (const [title, xml, facts, expected] of cases)
    it(title, () => {
      const findings = bindingsFindings(vmNeedsOf(xml), { ...GOOD, ...facts }, { own: 'b', peer: 'a' });
      assert.deepEqual(
        findings.map(({ code }) => code),
        expected,
      );
      for (const { severity, host, what, fix } of findings) {
        assert.deepEqual([severity, host], ['error', 'b']);
        assert.ok(what.startsWith('guest one ') && fix.length > 0);
      }
    });

  it('says what is pinned where, what the host has, and the command that pins it anew', () => {
    const xml = tuned("<vcpupin vcpu='0' cpuset='4-7,^5'/><vcpupin vcpu='1' cpuset='8'/>");
    const [finding] = bindingsFindings(vmNeedsOf(xml), GOOD, { own: 'b', peer: 'a' });
    assert.match(finding?.what ?? '', /\(vCPU 0 to 4,6-7, vCPU 1 to 8\) of which b has none; it has 0-3:/);
    assert.match(finding?.fix ?? '', /on a: virsh vcpupin 'guest one' 0 CPUS --live/);
  });

  it('takes no words of a source into commands', () => {
    const xml = domain(
      "<vcpus><vcpu id='$(id)' enabled='yes'/></vcpus><iothreadids><iothread id='`id`'/></iothreadids><vcpu cpuset='9'>1</vcpu>",
      `<disk type='file'><source file='/x'><encryption format='luks'><secret uuid='$(id)'/></encryption></source></disk>`,
    );
    const findings = bindingsFindings(vmNeedsOf(xml), GOOD, { own: 'b', peer: 'a' });
    assert.deepEqual(
      findings.map(({ code }) => code),
      ['vm.pinning'],
    );
    assert.ok(findings.every(({ what, fix }) => !`${what}${fix}`.includes('id)')));
  });
});

describe('lists of CPUs', () => {
  it('are read as libvirt writes them', () => {
    assert.deepEqual([...idsOf('0-3,^2,8')], [0, 1, 3, 8]);
    assert.deepEqual([...idsOf(' 5 ')], [5]);
    assert.deepEqual([...idsOf('')], []);
  });

  it('are bounded, whatever they are', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'0123456789-,^ x') }), (text) => {
        assert.ok([...idsOf(text)].every((id) => Number.isInteger(id) && id >= 0 && id < 16_384));
      }),
    );
    assert.equal(idsOf('0-999999,'.repeat(10_000)).size, 16_384);
  });
});
