import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { Problem } from '@virt-trust/contract/problem.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import { canBootLab } from '../src/capability.ts';
import { type CommandResult, exec } from '../src/command.ts';
import type { Host } from '../src/host.ts';
import { Fleet } from './fleet.ts';
import { programPath } from './program.ts';
import { sightOf } from './sight.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;
const CANARY = `/tmp/vt-canary-${process.pid}`;

/** What is no name of a host, whoever types it. */
const NO_NAMES = [
  'x;reboot',
  `$(touch ${CANARY})`,
  `\`touch ${CANARY}\``,
  `x|touch ${CANARY}`,
  '--help',
  `-oProxyCommand=touch ${CANARY}`,
  'a\nb',
  'a\u001b[31m',
  'a\u0000b',
  'a b',
  'é',
  '../x',
  '.',
  'a'.repeat(300),
];
const NO_DESTINATIONS = [
  ...NO_NAMES.filter((name) => name.length < 300),
  `-oProxyCommand=touch ${CANARY}`,
  `root@-oProxyCommand=touch ${CANARY}`,
  `root@$(touch ${CANARY})`,
  'root@h;reboot',
  'root@',
];
const NO_OPTIONS = [
  `ProxyCommand=touch ${CANARY}`,
  `LocalCommand=touch ${CANARY}`,
  `ProxyJump=$(touch>${CANARY})`,
  `ProxyJump=-oProxyCommand=touch>${CANARY}`,
  'User=a b',
  'IdentityAgent=$(x)',
  'StrictHostKeyChecking=no',
];

describe('words that mean something to a shell, a terminal or an option parser', { skip }, () => {
  let fleet: Fleet;
  let host: Host;
  let asFound: string;
  let program: string;

  before(async () => {
    fleet = await Fleet.up({ lab: `fail-words-${process.pid}`, hosts: ['host-a'] });
    host = fleet.host('host-a');
    program = await programPath();
    await fleet.add('host-a');
    asFound = await sightOf(host);
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  /** Sends a request as it is; the answer must be a problem document of the client's fault. */
  async function refused(method: string, path: string, body: unknown, code: RegExp): Promise<string> {
    const response = await fetch(new URL(path, fleet.url), {
      method,
      headers: {
        authorization: `Bearer ${fleet.token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      body: body === undefined ? null : typeof body === 'string' ? body : JSON.stringify(body),
    });
    const text = await response.text();
    assert.ok(
      response.status >= 400 && response.status < 500,
      `${method} ${path}: ${response.status} ${text}`,
    );
    assert.match(response.headers.get('content-type') ?? '', /^application\/problem\+json/);
    const problem = validatorOf(Problem)(JSON.parse(text), 'answer');
    assert.match(problem.code, code, text);
    return problem.detail ?? '';
  }

  /** Runs the command line with the first administrator's token. */
  function cli(...args: string[]): Promise<CommandResult> {
    return exec([program, ...args], {
      env: { PATH: process.env['PATH'] ?? '', VIRT_TRUST_URL: fleet.url, VIRT_TRUST_TOKEN: fleet.token },
    });
  }

  async function nothingHappened(): Promise<void> {
    assert.ok(!existsSync(CANARY), 'the manager ran it');
    assert.equal((await host.exec(['test', '-e', CANARY])).code, 1, 'the host ran it');
    assert.equal(await sightOf(host), asFound);
  }

  it('1. are refused in every field of an order, and the field is named', async () => {
    const order = await fleet.order('host-a');
    const add = (change: object, code = /^contract\.invalid$/) =>
      refused('POST', '/api/v1/hosts', { ...order, ...change }, code);
    for (const name of NO_NAMES) assert.match(await add({ name }), /at \/name: .* is not a name/);
    for (const destination of NO_DESTINATIONS)
      assert.match(await add({ ssh: { destination } }), /at \/ssh\/destination: .* is not HOST or USER@HOST/);
    for (const option of NO_OPTIONS)
      assert.match(
        await add({ ssh: { ...order.ssh, options: [option] } }),
        /at \/ssh\/options\/0: .*is not ProxyJump=/,
      );
    await add({ ssh: { ...order.ssh, identityFile: '-oProxyCommand=x' } });
    await add({ cluster: '$(x)' });
    await add({ interface: 'eth0;x y' });
    await add({ names: ['ok', 'x;y'] });
    await add({ channelAddress: '$(x)' });
    await add({ managerAddresses: ['127.0.0.1; reboot'] });
    await add({ fingerprint: 'SHA256:$(x)' });
    await add({ surprise: true });
    for (const destination of NO_DESTINATIONS)
      await refused('POST', '/api/v1/ssh-host-keys', { destination }, /^contract\.invalid$/);
    await nothingHappened();
  });

  it('2. are refused in paths, and a host that there is not is said not to be', async () => {
    for (const name of NO_NAMES.filter((one) => one !== '.')) {
      const path = `/api/v1/hosts/${encodeURIComponent(name)}`;
      await refused('GET', path, undefined, /^(?:contract\.invalid|route\.unknown|request\.refused)$/);
      await refused('DELETE', path, undefined, /^(?:contract\.invalid|route\.unknown|request\.refused)$/);
    }
    for (const [method, tail, body] of [
      ['GET', '', undefined],
      ['DELETE', '', undefined],
      ['POST', '/provision', {}],
      ['POST', '/collect', undefined],
      ['POST', '/key', undefined],
      ['POST', '/gates/serve', {}],
    ] as const)
      assert.match(
        await refused(method, `/api/v1/hosts/nobody${tail}`, body, /^host\.unknown$/),
        /cannot find host nobody/,
      );
    const migration = { vm: 'guest', from: 'host-a', to: 'nobody' };
    await refused('POST', '/api/v1/migrations', migration, /^host\.unknown$/);
    await refused('GET', '/api/v1/jobs/x', undefined, /^contract\.invalid$/);
  });

  it('3. are names of VMs at most', async () => {
    for (const vm of ['--help', '-c', 'a/b', 'a\nb', ''])
      await refused(
        'POST',
        '/api/v1/migrations',
        { vm, from: 'host-a', to: 'host-a' },
        /^contract\.invalid$/,
      );
    for (const vm of [`$(touch ${CANARY.replaceAll('/', '')})`, 'é 漢', 'x;reboot']) {
      const said = await cli('migrate', vm, '--from', 'host-a', '--to', 'host-a');
      assert.equal(said.code, 2);
      assert.match(said.stderr, /^error: cannot migrate .*: --from and --to are both host-a/m);
    }
    await nothingHappened();
  });

  it('4. are refused as bodies that are no JSON, too large or of another kind', async () => {
    for (const body of ['{', '[]', 'null', '"x"', '{"name":', '\u0000', '{"__proto__":{"name":"x"}}'])
      await refused('POST', '/api/v1/hosts', body, /^(?:request\.not_json|contract\.invalid)$/);
    const large = `{"name":"${'x'.repeat(2 ** 21)}"}`;
    await refused('POST', '/api/v1/hosts', large, /^request\.too_large$/);
    const csr = '-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n';
    for (const pem of [csr, '-----BEGIN ', 'x'])
      await refused(
        'POST',
        '/api/v1/certificates',
        { csr: pem, profile: 'libvirt-server', host: 'host-a', service: 'libvirt' },
        /^(?!internal)/,
      );
    await nothingHappened();
  });

  it('5. leave the command line with an error line, the code of wrong input and nothing done', async () => {
    const ssh = host.sshTarget;
    const lines: readonly string[][] = [
      ['host', 'add', 'x;reboot', '--ssh', ssh],
      ['host', 'add', `$(touch ${CANARY})`, '--ssh', ssh],
      ['host', 'add', 'x', '--ssh', `-oProxyCommand=touch ${CANARY}`],
      ['host', 'add', 'x', `--ssh=-oProxyCommand=touch ${CANARY}`],
      ['host', 'add', 'x', '--ssh', ssh, '--ssh-option', `ProxyCommand=touch ${CANARY}`],
      ['host', 'add', 'x', '--ssh', ssh, '--channel-address', '$(x)'],
      ['host', 'show', 'x;reboot'],
      ['host', 'remove', '../tokens', '--yes'],
      ['host', 'provision', 'a\u001b[31mb'],
      ['migrate', '--from', 'host-a', '--to', 'host-a', '--', '--help'],
      ['host', 'gate', 'host-a', '$(x)', '--yes'],
      ['setting', 'set', 'key.algorithm', '$(x)'],
    ];
    for (const line of lines) {
      const said = await cli(...line);
      assert.equal(said.code, 2, `${line.join(' ')}: ${said.code} ${said.stderr}`);
      assert.match(said.stderr, /^error: /, line.join(' '));
      assert.equal(said.stdout, '');
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not reach the terminal
      assert.doesNotMatch(said.stderr, /\u001b/);
    }
    assert.equal((await cli('host', 'show', 'nobody')).code, 3);
    await nothingHappened();
  });
});
