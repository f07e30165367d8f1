import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { type TestContext, test } from 'node:test';
import { TrustError } from '@virt-trust/base/error.ts';
import { type RunHostCommand, runHostCommand, which } from '@virt-trust/check/host/host-command.ts';
import fc from 'fast-check';
import { temporaryRoot } from '../fixtures.ts';
import { agentPaths } from '../state/paths.ts';
import { Firewall } from './firewall.ts';
import { parseActiveZones } from './firewalld.ts';
import { parseRuleset } from './nft-ruleset.ts';

const canMakeNamespaces = process.getuid?.() === 0 && (await which('nft')) !== undefined;
const skip = canMakeNamespaces ? false : 'needs root and nft';

/** Runs programs in a network namespace that ends with the test; firewalld is not there. */
async function namespaceRun(t: TestContext): Promise<RunHostCommand> {
  const holder = spawn('unshare', ['--net', 'sh', '-c', 'echo up; exec sleep 600'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => holder.kill('SIGKILL'));
  await new Promise((resolve) => holder.stdout.once('data', resolve));
  return (program, args, options) =>
    program === 'firewall-cmd'
      ? Promise.reject(new TrustError('command.missing', 'not-found', 'not in this test'))
      : runHostCommand('nsenter', [`--net=/proc/${holder.pid}/ns/net`, program, ...args], options);
}

async function firewallIn(t: TestContext, run: RunHostCommand): Promise<Firewall> {
  const paths = agentPaths(await temporaryRoot(t));
  await mkdir(paths.agent, { recursive: true });
  return new Firewall(paths, run);
}

const CHANNEL = { what: 'channel', ports: [{ from: 16515, to: 16515 }], from: ['192.0.2.1', '2001:DB8::1'] };
const MIGRATION = { what: 'migration', ports: [{ from: 49152, to: 49215 }], from: null };

test('ports are opened in the chains that drop, in each for its family, and taken back exactly', {
  skip,
}, async (t) => {
  const run = await namespaceRun(t);
  const rules = async () => (await run('nft', ['list', 'ruleset'])).stdout;
  await run('nft', ['-f', '-'], {
    stdin: `
      table inet filter {
        chain input { type filter hook input priority 0; policy drop; tcp dport 22 accept comment "ssh"
        }
        chain forward { type filter hook forward priority 0; policy drop; }
      }
      table ip only4 { chain in { type filter hook input priority 10; policy accept; counter reject
          }
        }
      table ip6 lax { chain in { type filter hook input priority 10; policy accept; tcp dport 1 drop
          }
        }
    `,
  });
  const before = await rules();
  const firewall = await firewallIn(t, run);
  assert.equal(await firewall.detect(), 'nftables-drop');
  assert.equal(await firewall.open(CHANNEL), true);
  assert.equal(await firewall.open(MIGRATION), true);
  const opened = await rules();
  assert.equal(
    opened.match(/ip saddr 192\.0\.2\.1 tcp dport 16515 accept comment "virt-trust:channel"/g)?.length,
    2,
  );
  assert.equal(opened.match(/ip6 saddr 2001:db8::1 tcp dport 16515 accept/g)?.length, 1);
  assert.equal(opened.match(/tcp dport 49152-49215 accept comment "virt-trust:migration"/g)?.length, 2);
  assert.equal(await firewall.open(CHANNEL), false, 'the second time changes nothing');
  assert.equal(await firewall.reapply(), false);
  assert.equal(await firewall.open({ ...CHANNEL, from: ['192.0.2.2'] }), true);
  assert.doesNotMatch(await rules(), /192\.0\.2\.1|2001:db8/);
  await run('nft', ['-a', 'flush', 'chain', 'inet', 'filter', 'input']);
  assert.equal(await firewall.reapply(), true, 'what was flushed is there again');
  await run('nft', [
    'add',
    'rule',
    'inet',
    'filter',
    'input',
    'tcp',
    'dport',
    '22',
    'accept',
    'comment',
    '"ssh"',
  ]);
  assert.deepEqual(await firewall.opened(), ['migration', 'channel']);
  assert.equal(await firewall.close('channel'), true);
  assert.equal(await firewall.close('migration'), true);
  assert.equal(await rules(), before);
  assert.equal(await firewall.close('migration'), false);
});

test('a host that drops nothing is left as it is', { skip }, async (t) => {
  const run = await namespaceRun(t);
  const firewall = await firewallIn(t, run);
  assert.equal(await firewall.detect(), 'open');
  assert.equal(await firewall.open(CHANNEL), false);
  assert.equal((await run('nft', ['list', 'ruleset'])).stdout, '');
});

test('a firewalld has rules of ours in its zones, and keeps those that were its own', async (t) => {
  const state = new Set(['--permanent --zone=public --add-port=49152-49215/tcp']);
  const run: RunHostCommand = async (program, args) => {
    if (program !== 'firewall-cmd') throw new TrustError('command.missing', 'not-found', 'not in this test');
    const line = args.join(' ');
    const answer = (stdout: string, code = 0) => ({ stdout, code, stderr: '' });
    if (line === '--state') return answer('running\n');
    if (line === '--get-default-zone') return answer('public\n');
    if (line === '--get-active-zones')
      return answer('libvirt\n  interfaces: virbr0\npublic\n  interfaces: eth0\n');
    if (line.includes('--query-')) return answer('', state.has(line.replace('--query-', '--add-')) ? 0 : 1);
    if (line.includes('--add-')) state.add(line);
    if (line.includes('--remove-')) state.delete(line.replace('--remove-', '--add-'));
    return answer('success\n');
  };
  const firewall = await firewallIn(t, run);
  const before = [...state];
  assert.equal(await firewall.open(MIGRATION), true);
  assert.equal(await firewall.open(CHANNEL), true);
  assert.ok(state.has('--zone=public --add-port=49152-49215/tcp'));
  assert.ok(
    state.has(
      '--permanent --zone=public --add-rich-rule=rule family="ipv6" source address="2001:DB8::1" port port="16515" protocol="tcp" accept',
    ),
  );
  assert.ok(![...state].some((rule) => rule.includes('libvirt')));
  assert.equal(await firewall.reapply(), false);
  state.delete('--zone=public --add-port=49152-49215/tcp');
  assert.equal(await firewall.reapply(), true);
  assert.equal(await firewall.close('migration'), true);
  assert.equal(await firewall.close('channel'), true);
  assert.deepEqual([...state], before);
});

test('what nft or firewall-cmd print is read or refused, whatever it is', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (output) => {
      parseActiveZones(output);
      try {
        parseRuleset(output);
      } catch (error) {
        assert.equal((error as TrustError).code, 'firewall.malformed_ruleset');
      }
    }),
  );
  const place = { family: fc.constant('inet'), table: fc.string(), chain: fc.string() };
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          fc.record({
            chain: fc.record({
              ...place,
              name: fc.string(),
              hook: fc.constant('input'),
              policy: fc.jsonValue(),
            }),
          }),
          fc.record({
            rule: fc.record({
              ...place,
              comment: fc.constant('virt-trust:x'),
              handle: fc.nat(),
              expr: fc.jsonValue(),
            }),
          }),
          fc.jsonValue(),
        ),
      ),
      (nftables) => {
        const { dropping, own } = parseRuleset(JSON.stringify({ nftables }));
        assert.ok(dropping.length <= nftables.length && own.length <= nftables.length);
      },
    ),
  );
});
