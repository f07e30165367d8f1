import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { withoutNewConnections } from './connection-hold.ts';

const ANSWER = { code: 0, stdout: '', stderr: '' };

test('New connections to the ports are dropped for as long as it works, and by themselves let in again after.', async () => {
  const done: string[] = [];
  const run: RunHostCommand = async (program, args) => {
    done.push(`${program} ${args.join(' ')}`);
    return ANSWER;
  };
  const pause = async (milliseconds: number) => done.push(`pause ${milliseconds}`);
  const result = await withoutNewConnections(run, [5900, 5901], async () => done.push('work'), pause);
  assert.equal(result, 3);
  assert.match(done[0] ?? '', /elements = \{ 5900 timeout 8s, 5901 timeout 8s \}/);
  assert.match(done[0] ?? '', /tcp dport @ports tcp flags & \(syn \| ack\) == syn drop$/);
  assert.deepEqual(done.slice(1), ['pause 1500', 'work', 'nft delete table inet virt_trust_hold']);
});

test('Connections are let in again where the work fails, and the failure is told.', async () => {
  const done: string[] = [];
  const run: RunHostCommand = async (_, args) => {
    done.push(args.join(' '));
    return ANSWER;
  };
  const fails = () => Promise.reject(new Error('QEMU says no'));
  await assert.rejects(
    withoutNewConnections(run, [5900], fails, async () => {}),
    /QEMU says no/,
  );
  assert.equal(done.at(-1), 'delete table inet virt_trust_hold');
});

test('Without nftables, and without a port, it just works.', async () => {
  const run: RunHostCommand = () => Promise.reject(new Error('cannot run nft: it is not there'));
  assert.equal(await withoutNewConnections(run, [5900], async () => 7), 7);
  assert.equal(await withoutNewConnections(run, [], async () => 8), 8);
});
