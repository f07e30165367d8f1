import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Console } from '@virt-trust/contract/model/console.ts';
import { Shell } from './fixtures.ts';

const CA = '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n';
const CONSOLE: Console = {
  vm: 'guest',
  host: 'kvm1',
  type: 'spice',
  address: '2001:db8::11',
  tlsPort: 5902,
  ca: CA,
  authentication: 'password',
  password: { password: 'only-for-one-visit', expiresAt: Date.UTC(2027, 0, 2, 3, 4, 5) },
  hostSubject: null,
  reachable: true,
  hint: 'port 5901 of it is without TLS',
  vv: '[virt-viewer]\npassword=only-for-one-visit\n',
};
const asked: unknown[] = [];
const server = createServer(async (request, response) => {
  let body = '';
  for await (const part of request) body += String(part);
  asked.push(JSON.parse(body));
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(CONSOLE));
});
let shell: Shell;

before(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  shell = new Shell({ VIRT_TRUST_URL: `http://127.0.0.1:${port}`, VIRT_TRUST_TOKEN: `vt_${'a'.repeat(43)}` });
});
after(() => {
  server.close();
  shell.remove();
});

test('a console is told with where it is and how it is verified, its password not to what is no terminal', async () => {
  assert.equal(
    await shell.replay('$ virt-trust console guest --host kvm1 --type spice\n'),
    `
$ virt-trust console guest --host kvm1 --type spice
vm  guest on kvm1
display  spice, TLS
address  [2001:db8::11] port 5902
verify  the name 2001:db8::11
ca  in the connection file (--vv), or in a file: --ca FILE
client  shows a password
password  not shown, since this is no terminal: --vv FILE or --json (for one visit that begins before 03:04:05Z)
note: port 5901 of it is without TLS
`,
  );
  assert.deepEqual(asked.at(-1), { vm: 'guest', host: 'kvm1', type: 'spice' });
});

test('SECURITY: the connection file is for its owner alone, also where another was before', async () => {
  const file = join(shell.home, 'guest.vv');
  writeFileSync(file, 'of old', { mode: 0o644 });
  const { code, output } = await shell.run('virt-trust console guest --vv guest.vv --ca ca.pem');
  assert.equal(code, 0, output);
  assert.deepEqual([readFileSync(file, 'utf8'), statSync(file).mode & 0o777], [CONSOLE.vv, 0o600]);
  assert.equal(readFileSync(join(shell.home, 'ca.pem'), 'utf8'), CA);
  assert.match(output, /^ca +ca\.pem$/m);
});

test('--json has everything', async () => {
  const { output } = await shell.run('virt-trust console guest --json');
  assert.deepEqual(JSON.parse(output), CONSOLE);
});

test('--open says what to install before it has a password made, and runs remote-viewer where it is there', async () => {
  const before = asked.length;
  assert.match(
    (await shell.run('PATH="$HOME/bin" virt-trust console guest --open')).output,
    /error: cannot open the console: remote-viewer is not installed\nhint: .*apt install virt-viewer/,
  );
  assert.equal(asked.length, before);
  const viewer = join(shell.home, 'bin', 'remote-viewer');
  writeFileSync(viewer, '#!/bin/sh\nstat -c %a "$1"\ncat "$1"\n', { mode: 0o755 });
  const { code, output } = await shell.run('virt-trust console guest --open');
  assert.equal(code, 0, output);
  assert.ok(output.includes(`600\n${CONSOLE.vv}`), output);
});
