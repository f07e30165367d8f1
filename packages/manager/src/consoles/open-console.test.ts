import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import type { VmDisplay } from '@virt-trust/contract/model/console.ts';
import type { ServedEndpoint } from '@virt-trust/contract/model/observed-state.ts';
import { parseCertificates } from '@virt-trust/pki/certificate.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';
import { declaredOn, settledState, testHost, testInventory, testTlsFile } from '../hosts/fixtures.ts';
import type { Host } from '../hosts/host.ts';
import { type ConsolesContext, openConsole } from './open-console.ts';

const SPICE: VmDisplay = {
  type: 'spice',
  listen: '::',
  port: 5901,
  tlsPort: 5902,
  tlsDirectory: '/var/lib/virt-trust/services/spice/current',
  authentication: 'password',
};
const VNC: VmDisplay = { ...SPICE, type: 'vnc', port: null, tlsPort: 5900 };
const LOOPBACK = { listen: '127.0.0.1', authentication: 'none' } as const;
const PASSWORD = { password: 'Ab-_1234', expiresAt: 60_000 };
const NAMES = { dns: ['kvm1', 'kvm1.console.example'], addresses: ['192.0.2.11', '2001:db8::11'] };

function notRunning(): TrustError {
  return new TrustError('console.not_running', 'not-found', 'cannot find the displays');
}

/** A fleet in which each host answers for `guest`: with displays, with an error, or not at all. */
function fleetOf(answers: Record<string, readonly VmDisplay[] | Error | 'away'>, more: Partial<Host> = {}) {
  const hosts = Object.keys(answers).map((name) =>
    testHost(name, { declared: declaredOn('eth2', NAMES), ...more }),
  );
  const asked: string[] = [];
  const audited: AuditDraft[] = [];
  const context = {
    repository: {
      list: async () => hosts,
      find: async (name: string) => hosts.find((host) => host.name === name) ?? null,
      unmanagedAddress: async () => null,
    },
    channels: {
      stateOf: (id: string) => ({
        kind: answers[hosts.find((host) => host.id === id)?.name ?? ''] === 'away' ? 'down' : 'up',
      }),
      of: async ({ name }: Host) => ({
        waitUntilUp: async () => {},
        agent: {
          call: async ({ id }: { id: string }) => {
            asked.push(`${id} ${name}`);
            if (id === 'createConsolePassword') return PASSWORD;
            const answer = answers[name];
            if (answer instanceof Error) throw answer;
            return { displays: answer };
          },
        },
      }),
    },
    certificates: { namesOf: async () => NAMES, bundle: async () => 'OUR CA\n' },
    audit: { append: async (entry: AuditDraft) => void audited.push(entry) },
    passwordSeconds: async () => 60,
  } as unknown as ConsolesContext;
  const open = (order: { host?: string; type?: 'vnc' | 'spice' } = {}) =>
    openConsole({ vm: 'guest', ...order }, 'token:ann', context, new AbortController().signal);
  return { open, asked, audited };
}

test('a console is SPICE before VNC, at the display address, with a password for one visit, and audited without it', async () => {
  const { open, audited } = fleetOf({ kvm1: [VNC, SPICE] });
  const console = await open();
  assert.deepEqual(
    [console.host, console.type, console.address, console.tlsPort, console.reachable, console.hostSubject],
    ['kvm1', 'spice', '192.0.2.11', 5902, true, null],
  );
  assert.deepEqual(console.password, PASSWORD);
  assert.match(console.hint, /port 5901 of it is without TLS/);
  assert.deepEqual(
    audited.map(({ actor, action, subject, outcome }) => [actor, action, subject, outcome]),
    [['token:ann', 'console.open', 'guest', 'done']],
  );
  assert.match(audited[0]?.detail ?? '', /spice on kvm1 at 192\.0\.2\.11 port 5902/);
  assert.ok(!JSON.stringify(audited).includes(PASSWORD.password));
});

test('SECURITY: a display without TLS is not announced, and no password is made for it', async () => {
  const { open, asked } = fleetOf({ kvm1: [{ ...SPICE, tlsPort: null }] });
  await assert.rejects(open(), (error) => isTrustError(error, 'console.no_tls'));
  await assert.rejects(open({ type: 'vnc' }), (error) => isTrustError(error, 'console.no_display'));
  assert.ok(!asked.some((one) => one.startsWith('createConsolePassword')));
});

test('a display on loopback is told as not reachable, with the way there', async () => {
  const { open } = fleetOf({ kvm1: [{ ...SPICE, ...LOOPBACK }] });
  const console = await open();
  assert.deepEqual([console.reachable, console.password], [false, null]);
  assert.match(console.hint, /ssh -N -L 5902:127\.0\.0\.1:5902 root@kvm1/);
  assert.doesNotMatch(console.hint, /WARNING/);
});

test('SECURITY: a display on the network that asks nobody who he is comes with a warning', async () => {
  const { open } = fleetOf({ kvm1: [{ ...VNC, authentication: 'none' }] });
  assert.match((await open()).hint, /^WARNING: it listens on the network/m);
});

test('a VM is looked for on all hosts that are up; none, several and hosts that are away are told by name', async () => {
  const away = { kvm1: notRunning(), kvm2: [SPICE], kvm3: 'away' } as const;
  assert.equal((await fleetOf(away).open()).host, 'kvm2');
  await assert.rejects(
    fleetOf({ ...away, kvm2: notRunning() }).open(),
    (error) =>
      isTrustError(error, 'console.vm_unknown') &&
      /none of the 2 hosts that were asked; 1 did not answer: kvm3/.test(error.message),
  );
  const twice = fleetOf({ kvm1: [SPICE], kvm2: [SPICE] });
  await assert.rejects(
    twice.open(),
    (error) => isTrustError(error, 'console.vm_ambiguous') && /kvm1, kvm2/.test(error.message),
  );
  assert.equal((await twice.open({ host: 'kvm2' })).host, 'kvm2');
  await assert.rejects(
    fleetOf(away).open({ host: 'kvm1' }),
    (error) => isTrustError(error, 'console.not_running') && /not run on host kvm1/.test(error.message),
  );
  await assert.rejects(twice.open({ host: 'kvm9' }), (error) => isTrustError(error, 'host.unknown'));
});

test('SECURITY: a host that has a VM that was last seen on another one, which is away, comes with a warning', async () => {
  const at = { service: 'vnc', target: 'VM guest 127.0.0.1:5900', vm: 'guest' };
  const observed = settledState('ours', { served: [at as ServedEndpoint] });
  const { open } = fleetOf({ kvm1: [SPICE], kvm2: 'away' }, { observed });
  assert.match((await open()).hint, /^WARNING: .* last seen on kvm2, which did not answer now/m);
  assert.doesNotMatch((await fleetOf({ kvm1: [SPICE] }, { observed }).open()).hint, /WARNING/);
});

test('SECURITY: an address to listen on that is none goes into no command', async () => {
  const { open } = fleetOf({ kvm1: [{ ...SPICE, ...LOOPBACK, listen: '127.0.0.1;halt #' }] });
  await assert.rejects(open(), (error) => isTrustError(error, 'console.no_address'));
});

test("the display interface's own FQDN goes before its addresses", async () => {
  const word = {
    dns: ['kvm1'],
    accepted: [],
    outside: { dns: [], addresses: [] },
    interfaces: { eth2: { roles: null, dns: ['kvm1.console.example'], addresses: [] } },
  };
  const { open } = fleetOf({ kvm1: [SPICE] }, { word });
  const console = await open();
  assert.equal(console.address, 'kvm1.console.example');
  assert.match(console.vv, /^host=kvm1\.console\.example$/m);
});

test('a display is announced only at an address on which it listens and that its certificate has', async () => {
  const at = async (listen: string) => (await fleetOf({ kvm1: [{ ...SPICE, listen }] }).open()).address;
  assert.equal(await at('2001:db8::11'), '2001:db8::11');
  assert.equal(await at('0.0.0.0'), '192.0.2.11');
  await assert.rejects(at('192.0.2.99'), (error) => isTrustError(error, 'console.no_address'));
});

test('host-subject is told where a certificate that was found on the host is served, as spice-gtk compares it', async () => {
  const [pem = '', ca = ''] = ['/C=DE/O=Example, Inc./CN=kvm1', '/CN=found'].map((subject) =>
    execFileSync('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-utf8'],
      ...['-keyout', '/dev/null', '-days', '2', '-subj', subject],
    ]).toString('latin1'),
  );
  const { pin } = parseCertificates(pem, 'tolerant')[0] ?? {};
  assert.ok(pin !== undefined);
  const certificate = { subject: 'CN=kvm1', issuer: 'CN=found', notAfter: 0, pin };
  const tlsFiles = [
    { ...testTlsFile('spice', 'ca'), pem: ca },
    { ...testTlsFile('spice', 'server-certificate'), pem, certificate },
  ];
  const inventory = testInventory({ tlsFiles });
  const console = await fleetOf({ kvm1: [SPICE] }, { inventory, observed: settledState('none') }).open();
  assert.equal(console.hostSubject, 'C=DE,O=Example\\, Inc.,CN=kvm1');
  assert.match(console.vv, /^host-subject=C=DE,O=Example\\\\, Inc\.,CN=kvm1$/m);
  assert.equal(console.ca, ca);
  // The same files are there, and ours is served.
  const ours = await fleetOf({ kvm1: [SPICE] }, { inventory, observed: settledState('ours') }).open();
  assert.deepEqual([ours.hostSubject, ours.ca], [null, 'OUR CA\n']);
  const nothing = fleetOf({ kvm1: [SPICE] }, { observed: settledState('none') });
  await assert.rejects(nothing.open(), (error) => isTrustError(error, 'console.certificate_unknown'));
});
