import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { canBootLab } from '../src/capability.ts';
import { exec } from '../src/command.ts';
import { ensureRoot } from '../src/root.ts';
import type { RootRecipe } from '../src/root-recipe.ts';
import { until } from '../src/until.ts';

const capability = await canBootLab();
const options = { skip: capability.kind === 'yes' ? false : `cannot build a root: ${capability.why}` };

test(
  'a build that is killed leaves no process and no root, and the next one builds it',
  options,
  async () => {
    const mark = `e2e-${process.pid}`;
    const recipe: RootRecipe = {
      packages: ['base-files'],
      excludedPaths: ['/usr/share/man/*', '/usr/share/doc/*', '/usr/share/locale/*'],
      files: [{ kind: 'file', path: 'etc/mark', mode: 0o600, text: mark }],
      removed: ['etc/hostname', 'etc/resolv.conf'],
    };
    const script = `import { ensureRoot } from ${JSON.stringify(new URL('../src/root.ts', import.meta.url).href)};
    await ensureRoot({ recipe: ${JSON.stringify(recipe)}, say: (text) => console.log(text) });`;
    const builder = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    for await (const line of createInterface(builder.stdout))
      if (line.startsWith('extracting archives')) break;
    const ended = once(builder, 'exit');
    builder.kill('SIGKILL');
    await ended;

    const { directory, kind } = await ensureRoot({ recipe });
    try {
      assert.equal(kind, 'built');
      assert.equal((await stat(join(directory, 'etc/mark'))).mode & 0o777, 0o600);
      await assert.rejects(stat(join(directory, 'etc/hostname')));
      const beside = (await readdir(dirname(directory))).filter((entry) =>
        entry.startsWith(`${basename(directory)}.`),
      );
      assert.deepEqual(beside, []);
      const left = ['pgrep', '-f', `mmdebstrap.*${directory}`];
      await until('end a build', 60_000, async () => ((await exec(left)).code === 1 ? true : undefined));
      assert.deepEqual(await ensureRoot({ recipe }), { directory, kind: 'cached' });
    } finally {
      await rm(directory, { recursive: true });
    }
  },
);
