import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ServedManager, Shell } from './fixtures.ts';

let manager: ServedManager;
let token: string;
const home = new Shell();
before(async () => {
  manager = await ServedManager.start();
  home.env['URL'] = manager.shell.env['VIRT_TRUST_URL'] ?? '';
  home.env['TOKEN'] = token = manager.shell.env['VIRT_TRUST_TOKEN'] ?? '';
});
after(async () => {
  home.remove();
  await manager.stop();
});

const mode = (path: string) => (statSync(join(home.home, path)).mode & 0o777).toString(8);

test('login reads the token from standard input, tries it, and saves it for its owner alone', async () => {
  const refused = await home.run('echo vt_wrong | virt-trust login --url $URL');
  assert.equal(refused.code, 5);
  assert.throws(() => mode('.config/virt-trust/credentials.json'), { code: 'ENOENT' });

  const { code, output } = await home.run('umask 0; echo $TOKEN | virt-trust login --url $URL/');
  assert.equal(code, 0, output);
  assert.match(
    output,
    /^logged in to http:\/\/127\.0\.0\.1:\d+ as administrator \(administrator\); saved in \//,
  );
  assert.ok(!output.includes(token));
  assert.equal(mode('.config/virt-trust'), '700');
  assert.equal(mode('.config/virt-trust/credentials.json'), '600');
  assert.equal((await home.run('virt-trust token list --json')).code, 0);
});

test('on a terminal the token is asked for and not shown', async () => {
  const { code, output } = await home.run(
    `{ until grep -q Token: seen 2>/dev/null; do sleep 0.1; done; echo "$TOKEN"; } | script -qefc 'virt-trust login --url $URL' seen`,
  );
  assert.equal(code, 0, output);
  assert.match(output, /Token: [\r\n]+logged in/);
  assert.ok(!output.includes(token));
});

test('on a terminal what takes something away is asked for first', async () => {
  const made = await home.run('virt-trust token create temporary --role auditor --json');
  const { id } = (JSON.parse(made.output) as { token: { id: string } }).token;
  const answer = (text: string) =>
    home.run(
      `rm -f seen; { until grep -q y/N seen 2>/dev/null; do sleep 0.1; done; ${text}; } | script -qefc 'virt-trust token delete ${id}' seen`,
    );
  for (const no of ['echo n', "printf '\\003'", "printf '\\004'"]) {
    const { code, output } = await answer(no);
    assert.equal(code, 2, `${no}: ${output}`);
    assert.match(output, /error: nothing was done: this was not confirmed/);
  }
  assert.equal((await answer('echo y')).code, 0);
  assert.ok(!(await home.run('virt-trust token list')).output.includes('temporary'));
});
