import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LibvirtQuestions } from './libvirt-questions.ts';
import { readSurroundings } from './surroundings-facts.ts';
import type { VmSurroundings } from './vm-surroundings.ts';

const NOTHING: VmSurroundings = { displays: [], filters: [], outputs: [], hugePages: null };
const signal = new AbortController().signal;
const TABLE = ` UUID                                   Name
------------------------------------------------------------------
 0a8e4a6c-3d5e-4b5b-9c5a-2f4f6a3e0001   allow arp
 0a8e4a6c-3d5e-4b5b-9c5a-2f4f6a3e0002   clean-traffic
`;

test('filters are known by their names as virsh lists them, spaces included', async () => {
  const run = async () => ({ stdout: TABLE }) as never;
  const wanted = { ...NOTHING, filters: ['allow arp', 'clean-traffic', 'Name', 'mine'] };
  const facts = await readSurroundings(wanted, new LibvirtQuestions(run, signal), run);
  assert.deepEqual([...facts.filters], ['allow arp', 'clean-traffic']);
});

test('of another host libvirt alone is asked, and of this one nothing that is not wanted', async () => {
  const asked: string[] = [];
  const run = async (program: string) => {
    asked.push(program);
    return { stdout: '' } as never;
  };
  const questions = new LibvirtQuestions(run, signal);
  await readSurroundings(NOTHING, questions, run);
  assert.deepEqual(asked, []);
  const wanted: VmSurroundings = {
    displays: [{ kind: 'vnc', ports: [5901], addresses: ['192.0.2.1'] }],
    filters: ['mine'],
    outputs: ['/srv/a/log'],
    hugePages: { pageBytes: null },
  };
  const facts = await readSurroundings(wanted, questions, run, false);
  assert.deepEqual(asked, ['virsh']);
  assert.deepEqual(
    [facts.listening, facts.isOwn, facts.directories, facts.freeHugePages],
    [null, null, null, null],
  );
});
