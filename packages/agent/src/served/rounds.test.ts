import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { HOUR } from '@virt-trust/base/instant.ts';
import { Rounds } from './rounds.ts';

/** Rounds that tell the test of each one. */
function counted(t: TestContext, intervalMs: number, directory: string) {
  let waiting = Promise.withResolvers<void>();
  const rounds = new Rounds({
    round: async () => {
      waiting.resolve();
      waiting = Promise.withResolvers();
      throw new Error('a round that fails is followed by others');
    },
    intervalMs: () => intervalMs,
    watched: async () => new Map([[directory, new Set(['link'])]]),
  });
  t.after(() => rounds.stop());
  return { rounds, next: () => waiting.promise };
}

async function directoryOf(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'virt-trust-rounds-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  // Timers of rounds keep no process alive, nor do the watches.
  const keep = setInterval(() => {}, HOUR);
  t.after(() => clearInterval(keep));
  return directory;
}

test('rounds go on in their interval, also after one that failed', async (t) => {
  const { rounds, next } = counted(t, 1, await directoryOf(t));
  rounds.soon();
  for (let round = 0; round < 3; round++) await next();
});

test('a change of a watched name begins a round long before its interval is over', async (t) => {
  const directory = await directoryOf(t);
  let rounds = 0;
  let waiting = Promise.withResolvers<void>();
  const watched = Promise.withResolvers<void>();
  const made = new Rounds({
    round: async () => {
      rounds++;
      waiting.resolve();
      waiting = Promise.withResolvers();
    },
    intervalMs: () => {
      watched.resolve();
      return HOUR;
    },
    watched: async () => new Map([[directory, new Set(['link'])]]),
  });
  t.after(() => made.stop());
  made.soon();
  // The interval is asked for when the watches are there.
  await watched.promise;
  const next = waiting.promise;
  await writeFile(join(directory, 'other'), '');
  await writeFile(join(directory, 'link'), '');
  await next;
  assert.equal(rounds, 2);
});
