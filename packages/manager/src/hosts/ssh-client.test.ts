import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { zstdDecompressSync } from 'node:zlib';
import { runSsh } from './ssh-client.ts';

/** An `ssh` that keeps what it is given. */
async function keepingSsh(t: TestContext) {
  const directory = await mkdtemp(join(tmpdir(), 'vt-ssh-test-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const given = join(directory, 'given');
  await writeFile(join(directory, 'ssh'), `#!/bin/sh\nexec cat >"$1"\n`);
  await chmod(join(directory, 'ssh'), 0o755);
  const { PATH } = process.env;
  process.env['PATH'] = `${directory}${delimiter}${PATH}`;
  t.after(() => {
    process.env['PATH'] = PATH;
  });
  const file = join(directory, 'program');
  const content = Buffer.alloc(3_000_000, 'the program, more than one piece of it; ');
  await writeFile(file, content);
  return {
    content,
    send: async (packed: 'zstd' | null) => {
      const { code } = await runSsh([given], { input: { file, packed }, timeoutMs: 60_000 });
      assert.equal(code, 0);
      return await readFile(given);
    },
  };
}

test('a file arrives on standard input as it is', async (t) => {
  const { content, send } = await keepingSsh(t);
  assert.ok((await send(null)).equals(content));
});

test('a file that is packed arrives smaller, and is whole once it is unpacked', async (t) => {
  const { content, send } = await keepingSsh(t);
  const given = await send('zstd');
  assert.ok(given.length < content.length / 10);
  assert.ok(zstdDecompressSync(given).equals(content));
});
