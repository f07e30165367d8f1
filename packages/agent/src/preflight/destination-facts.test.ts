import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readDestinationFacts } from './destination-facts.ts';
import type { LibvirtQuestions } from './libvirt-questions.ts';
import { vmNeedsOf } from './vm-needs.ts';

/** Reads what a host has of a VM with that emulator; the questions that its libvirt was asked. */
async function questionsAbout(emulator: string, isHere = true): Promise<string> {
  const xml = `<domain type='kvm'><name>vm</name><os><type arch='x86_64' machine='pc'>hvm</type></os><cpu mode='custom'><model>qemu64</model></cpu><devices><emulator>${emulator}</emulator></devices></domain>`;
  const asked: string[] = [];
  const libvirt = {
    vms: async () => new Map(),
    lines: async () => [],
    tryAsk: async () => undefined,
    objection: async (words: readonly string[]) => {
      asked.push(...words);
      return null;
    },
  } as unknown as LibvirtQuestions;
  await readDestinationFacts(vmNeedsOf(xml), xml, libvirt, isHere);
  return asked.join(' ');
}

test('an emulator that a source names is not started here by asking about it, unless it is the system’s', async () => {
  for (const evil of ['/mnt/shared/evil', '/usr/../mnt/evil', 'mnt/evil', '/var/tmp/x', '/usr/bin/a b'])
    assert.equal(await questionsAbout(evil), '', evil);
  assert.match(await questionsAbout('/usr/bin/qemu-system-x86_64'), /--emulatorbin \/usr\/bin\/qemu/);
});

test('another host’s libvirt is asked about the emulator of this host’s own VM', async () => {
  assert.match(await questionsAbout('/srv/qemu', false), /--emulatorbin \/srv\/qemu/);
});
