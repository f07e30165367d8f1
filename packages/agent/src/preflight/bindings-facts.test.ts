import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readBindings } from './bindings-facts.ts';
import { LibvirtQuestions } from './libvirt-questions.ts';
import { vmNeedsOf } from './vm-needs.ts';

const [KEPT, EMPTY, PASSING] = ['1', '2', '3'].map(
  (digit) => `${digit.repeat(8)}-2222-3333-4444-555555555555`,
);
const SECRETS = ` UUID                                   Usage
-----------------------------------------------------------
 ${KEPT}   volume /srv/two  words.img
 ${EMPTY}   ceph client.x
 ${PASSING}   Unused

`;
const CAPABILITIES = `<capabilities><host><cpu/><topology><cells num='2'>
  <cell id='0'><cpus num='2'><cpu id='0' siblings='0'/><cpu id='2' siblings='2'/></cpus></cell>
  <cell id='3'><cpus num='1'><cpu id='9'/></cpus></cell>
</cells></topology></host></capabilities>`;
const tpmOf = (models: string, versions: string) =>
  `<domainCapabilities><devices><tpm supported='yes'><enum name='backendModel'>${models}</enum>${versions}</tpm></devices></domainCapabilities>`;
const WITH_SWTPM = tpmOf(
  '<value>passthrough</value><value>emulator</value>',
  "<enum name='backendVersion'><value>2.0</value></enum>",
);

const ALL = vmNeedsOf(`<domain type='kvm'><name>g</name><vcpu cpuset='0'>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices><emulator>/usr/bin/qemu</emulator>
    <disk type='file'><source file='/x'><encryption format='luks'><secret uuid='${KEPT}'/></encryption></source></disk>
    <tpm><backend type='emulator' version='2.0'/></tpm></devices></domain>`);

/** A libvirt that answers by the command; without an answer it refuses. */
function libvirtOf(answers: Readonly<Record<string, string>>) {
  const asked: string[] = [];
  const run = async (_: string, args: readonly string[]) => {
    const words = args.slice(2).join(' ');
    asked.push(words);
    const key = Object.keys(answers).find((one) => words.startsWith(one));
    if (key === undefined) throw new Error('no');
    return { stdout: answers[key] } as never;
  };
  return { asked, libvirt: new LibvirtQuestions(run, new AbortController().signal) };
}

const dump = (ephemeral: string) => `<secret ephemeral='${ephemeral}' private='no'/>`;
const ANSWERS = {
  capabilities: CAPABILITIES,
  'secret-list': SECRETS,
  [`secret-dumpxml ${KEPT}`]: dump('no'),
  [`secret-dumpxml ${EMPTY}`]: dump('no'),
  [`secret-dumpxml ${PASSING}`]: dump('yes'),
  domcapabilities: WITH_SWTPM,
};

test('CPUs, nodes, secrets and the emulator of TPMs are what libvirt says', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'virt-trust-secrets-'));
  for (const file of [`${KEPT}.xml`, `${KEPT}.base64`, `${EMPTY}.xml`])
    await writeFile(join(directory, file), '');
  const { asked, libvirt } = libvirtOf(ANSWERS);
  const facts = await readBindings(ALL, libvirt, true, directory);
  await rm(directory, { recursive: true });
  assert.deepEqual(
    [[...(facts.onlineCpus ?? [])], [...(facts.numaNodes ?? [])]],
    [
      [0, 2, 9],
      [0, 3],
    ],
  );
  assert.equal(facts.secrets?.get(KEPT ?? ''), 'volume /srv/two  words.img');
  assert.equal(facts.secrets?.size, 3);
  assert.deepEqual([...facts.valueless], [EMPTY]);
  assert.deepEqual([facts.tpm?.isEmulated, [...(facts.tpm?.versions ?? [])]], [true, ['2.0']]);
  // SECURITY: whether it has a value is known without asking for it.
  assert.ok(!asked.some((words) => words.includes('secret-get-value')));
});

test('what libvirt does not answer is not known, and nothing is asked that is not named', async () => {
  const nothing = libvirtOf(ANSWERS);
  const plain = vmNeedsOf('<domain><vcpu>1</vcpu></domain>');
  const known = await readBindings(plain, nothing.libvirt);
  assert.deepEqual([nothing.asked, known.onlineCpus, known.secrets, known.tpm], [[], null, null, null]);
  const facts = await readBindings(ALL, libvirtOf({}).libvirt);
  assert.deepEqual([facts.onlineCpus, facts.numaNodes, facts.secrets, facts.tpm], [null, null, null, null]);
});

test('a libvirt without swtpm says so; one that tells of no TPM is not judged', async () => {
  const tpmBy = async (domcapabilities: string) =>
    (await readBindings(ALL, libvirtOf({ domcapabilities }).libvirt)).tpm;
  assert.deepEqual(await tpmBy(tpmOf('<value>passthrough</value>', '')), {
    isEmulated: false,
    versions: null,
  });
  assert.equal(await tpmBy('<domainCapabilities><devices/></domainCapabilities>'), null);
});

test('of another host files are not looked at, and no foreign emulator is started here', async () => {
  const { libvirt } = libvirtOf(ANSWERS);
  const facts = await readBindings(ALL, libvirt, false, '/nowhere');
  assert.equal(facts.valueless.size, 0);
  const foreign = libvirtOf(ANSWERS);
  await readBindings({ ...ALL, emulator: '/srv/shared/qemu' }, foreign.libvirt);
  assert.ok(!foreign.asked.some((words) => words.startsWith('domcapabilities')));
});
