import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TrustError } from '@virt-trust/base/error.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { testMigrationOptions } from '@virt-trust/contract/model/fixtures.ts';
import type { Finding, PreflightOrder } from '@virt-trust/contract/model/preflight.ts';
import { FindingList } from './finding-list.ts';
import { lookAtFiles } from './host-files.ts';
import { LibvirtQuestions } from './libvirt-questions.ts';
import { checkVm } from './vm-preflight.ts';

const UUID = '2f4f6a3e-0000-4000-8000-000000000001';
const REMOTE = 'qemu+tcp://192.0.2.1:16509/system';

/** `virsh` of both hosts: what each answers by the words that it is asked with. */
function virsh(answers: Readonly<Record<string, Readonly<Record<string, string>>>>): RunHostCommand {
  return async (program, args) => {
    const [, uri = '', ...words] = args;
    const stdout = program === 'virsh' ? answers[uri]?.[words.join(' ')] : undefined;
    if (stdout !== undefined) return { stdout, stderr: '', code: 0 } as never;
    const context = { stderr: 'error: nobody there' };
    throw new TrustError('command.failed', 'failed', `cannot ${program} ${words.join(' ')}`, { context });
  };
}

/** What the agent of the destination finds of a VM whose source has none. */
async function found(devices: string, remote?: Readonly<Record<string, string>>): Promise<Finding[]> {
  const xml = `<domain type='kvm'><name>web</name><uuid>${UUID}</uuid><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>${devices}</devices></domain>`;
  const both = {
    'list --all --uuid --name': `${UUID} web`,
    [`domstate --domain ${UUID}`]: 'running\n',
    [`dumpxml --domain ${UUID} --migratable`]: xml,
  };
  const run = virsh({
    'qemu:///system': {
      'list --all --uuid --name': '',
      'list --state-running --uuid --name': '',
      'list --state-paused --uuid --name': '',
      'domcapabilities --virttype kvm --arch x86_64 --machine pc': '<domainCapabilities/>',
    },
    [REMOTE]: remote ?? both,
  });
  const order: PreflightOrder = {
    id: UUID,
    role: 'destination',
    mode: 'plain',
    own: 'b',
    peer: 'a',
    hasPeerAgent: false,
    destination: {
      libvirtAddress: '192.0.2.2',
      libvirtPort: 16509,
      streamAddress: '192.0.2.2',
      tlsDestination: null,
    },
    sourceAddress: '192.0.2.1',
    controlBundle: null,
    controlCrl: null,
    clientDn: null,
    handshakes: false,
    vm: 'web',
    vmXml: null,
    disks: [],
    options: testMigrationOptions(),
  };
  const list = new FindingList('b');
  const signal = new AbortController().signal;
  const answer = await checkVm({
    order,
    libvirt: new LibvirtQuestions(run, signal),
    list,
    run,
    signal,
    reader: undefined,
    qemuUser: async () => ({ uid: 0, gid: 0 }),
    files: lookAtFiles,
  });
  assert.equal(answer, null);
  return list.all;
}

const codes = (findings: readonly Finding[]) => findings.map(({ host, code }) => `${host} ${code}`);

test('a VM on a source without an agent is read there, and judged by what the destination has', async () => {
  assert.deepEqual(codes(await found('')), []);
  const bridged = await found("<interface type='bridge'><source bridge='no-such-br'/></interface>");
  assert.deepEqual(codes(bridged), ['b bridge.missing']);
});

test('what would keep it on its source is the source’s', async () => {
  const disk = "<disk type='file'><source file='/nonexistent/a'/><target dev='vda'/></disk>";
  assert.deepEqual(codes(await found(disk)), ['a disk.not_shared', 'b disk.missing']);
});

test('a VM that a source without an agent does not have is missing there', async () => {
  const [one, ...others] = await found('', { 'list --all --uuid --name': '' });
  assert.deepEqual([one?.code, one?.severity, one?.host, others], ['vm.unknown', 'error', 'a', []]);
});

test('a source without an agent whose libvirt does not answer is said not to have shown the VM', async () => {
  const [one, ...others] = await found('', {});
  assert.deepEqual([one?.code, one?.severity, others], ['vm.unchecked', 'note', []]);
  assert.match(one?.what ?? '', /nobody there/);
});

test('what a source’s word is not enough for is found before it is refused', async () => {
  const device = "<hostdev mode='subsystem' type='pci'/>";
  assert.ok(codes(await found(device)).includes('b vm.undue'));
});
