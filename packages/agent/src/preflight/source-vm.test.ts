import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lookAtFiles } from './host-files.ts';
import { LibvirtQuestions } from './libvirt-questions.ts';
import { readSourceVm } from './source-vm.ts';

const [WEB, SEVEN, NAMED] = ['1', '2', '3'].map((digit) => `${digit.repeat(8)}-2222-3333-4444-555555555555`);
/** `7` is an ID of somebody's, too, and the last one is called as the first one's UUID. */
const LIST = `${WEB}  web${' '.repeat(28)}\n${SEVEN}  7${' '.repeat(30)}\n${NAMED}  ${WEB}\n\n`;

function libvirt() {
  const asked: string[] = [];
  const run = async (_: string, args: readonly string[]) => {
    const words = args.slice(2);
    asked.push(words.join(' '));
    if (words[0] === 'list') return { stdout: LIST } as never;
    const uuid = words[words.indexOf('--domain') + 1];
    const stdout =
      words[0] === 'dumpxml'
        ? `<domain type='kvm'><name>n</name><uuid>${uuid}</uuid><devices/></domain>`
        : 'running\n';
    return { stdout } as never;
  };
  return { asked, questions: new LibvirtQuestions(run, new AbortController().signal) };
}

test('SECURITY: a VM is asked for by its UUID, whatever other VM has its name for an ID or UUID', async () => {
  for (const [name, uuid] of [
    ['web', WEB],
    ['7', SEVEN],
    [WEB ?? '', NAMED],
  ] as const) {
    const { asked, questions } = libvirt();
    const found = await readSourceVm(name, { offline: false }, questions, lookAtFiles);
    assert.equal(found?.report.uuid, uuid);
    const named = asked.filter((words) => words.includes('--domain'));
    assert.ok(
      named.length > 3 && named.every((words) => words.includes(`--domain ${uuid}`)),
      asked.join('\n'),
    );
  }
});

test('a name that no VM has is nobody, even where it is the ID of one', async () => {
  const { asked, questions } = libvirt();
  assert.equal(await readSourceVm('1', { offline: false }, questions, lookAtFiles), null);
  assert.equal(asked.length, 1);
});
