import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { TrustError } from '@virt-trust/base/error.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { probeLibvirt } from '@virt-trust/connect/probe-libvirt.ts';
import { serveLibvirtd } from '@virt-trust/connect/test-servers.ts';
import { makeTestCertificate } from '@virt-trust/libvirt/test-certificates.ts';
import { settableClock } from '../store/fixtures.ts';
import { declaredOn, NOTHING_FOUND, settledState, testHost } from './fixtures.ts';
import type { Host } from './host.ts';
import { OutsideLooks } from './outside-looks.ts';

const OTHER = `sha256:${'B'.repeat(43)}`;

function hostServing(pin: string | null, more: Partial<Host> = {}): Host {
  const observed = settledState('ours');
  const credentials = observed.credentials.map((credential) => ({ ...credential, pin }));
  return testHost('host-1', {
    found: NOTHING_FOUND,
    declared: declaredOn('lo', { dns: ['host-1'], addresses: ['127.0.0.1'] }),
    observed: { ...observed, credentials },
    ...more,
  });
}

/** A libvirtd on loopback, and looks at it. */
async function looksAt(t: TestContext, probe?: typeof probeLibvirt) {
  const authority = await makeTestCertificate({ subject: 'O=virt-trust,CN=authority', ca: true });
  const common = { issuer: authority, notBefore: '2026-01-01T00:00:00Z', notAfter: '2036-01-01T00:00:00Z' };
  const names = [{ kind: 'ip', value: '127.0.0.1' }] as const;
  const identity = await makeTestCertificate({ ...common, subject: 'CN=host-1', names });
  const client = await makeTestCertificate({ ...common, subject: 'CN=manager' });
  const { port } = await serveLibvirtd(t, { identity, clientAuthority: authority });
  const clock = settableClock(identity.certificate.notBefore + 1000);
  const stop = new AbortController();
  t.after(() => stop.abort());
  const changes: string[] = [];
  const answering = { agent: true };
  const stored: { host: Host | null } = { host: hostServing(identity.certificate.pin) };
  const looks = new OutsideLooks({
    repository: { get: async () => stored.host },
    trustFor: async () => authority.pem,
    client: async () => ({ certificatePem: client.pem, privateKeyPem: client.keyPem }),
    intervalOf: async () => 60,
    isUp: () => true,
    agentAnswers: async () => answering.agent,
    onChange: (id) => changes.push(id),
    probe: probe ?? probeLibvirt,
    port,
    clock,
    randomness: systemRandomness,
    log: silentLog,
    signal: stop.signal,
  });
  const id = stored.host?.id;
  assert.ok(id);
  looks.written(id);
  return { looks, id, stored, clock, changes, answering, pin: identity.certificate.pin };
}

test('a libvirtd that serves what it should, to our own client certificate, is as desired', async (t) => {
  const { looks, id, changes } = await looksAt(t);
  const look = await looks.look(id);
  assert.deepEqual([look?.state, look?.detail], ['as-desired', '']);
  assert.equal(changes.length, 1);
  await looks.look(id);
  assert.equal(changes.length, 1);
  assert.deepEqual([...looks.counts()], [['as-desired', 1]]);
});

test('another certificate than the one settled on is drift, and since when is kept', async (t) => {
  const { looks, id, stored, clock, pin } = await looksAt(t);
  stored.host = hostServing(OTHER);
  const first = await looks.look(id);
  clock.advance(1000);
  const second = await looks.look(id);
  assert.equal(first?.state, 'drifted');
  assert.match(
    first.detail,
    new RegExp(`127\\.0\\.0\\.1:\\d+ serves the certificate .* \\(${pin}\\) and not`),
  );
  assert.deepEqual([second?.since, second?.at], [first.since, first.at + 1000]);
});

test('no connection is unreachable, no handshake is refused', async (t) => {
  const failing = (code: string) => async () => {
    throw new TrustError(code, 'failed', 'cannot probe');
  };
  const away = await looksAt(t, failing('probe.connect'));
  const alone = await away.looks.look(away.id);
  assert.deepEqual([alone?.state, alone?.agentAnswered], ['unreachable', true]);
  away.answering.agent = false;
  assert.equal((await away.looks.look(away.id))?.agentAnswered, false);
  assert.equal(away.changes.length, 2);
  const refusing = await looksAt(t, failing('probe.chain'));
  refusing.answering.agent = false;
  const refused = await refusing.looks.look(refusing.id);
  assert.deepEqual([refused?.state, refused?.agentAnswered], ['refused', true]);
});

test('a host that falls silent in the midst of a handshake is asked for a sign of life on its channel', async (t) => {
  const { looks, id, answering } = await looksAt(t, async () => {
    throw new TrustError('probe.handshake', 'failed', 'cannot probe', { context: { expired: true } });
  });
  assert.deepEqual([(await looks.look(id))?.state, looks.of(id)?.agentAnswered], ['refused', true]);
  answering.agent = false;
  assert.deepEqual([(await looks.look(id))?.state, looks.of(id)?.agentAnswered], ['refused', false]);
});

test('what was seen while a host was away is forgotten once its channel is up', async (t) => {
  const { looks, id, changes, answering } = await looksAt(t, async () => {
    throw new TrustError('probe.connect', 'failed', 'cannot probe');
  });
  await looks.look(id);
  looks.up(id);
  assert.equal(looks.of(id)?.state, 'unreachable');
  answering.agent = false;
  await looks.look(id);
  const before = changes.length;
  looks.up(id);
  assert.equal(looks.of(id), null);
  assert.equal(changes.length, before + 1);
});

test('a host that somebody works on, that is only observed or has served nothing yet is not looked at', async (t) => {
  const asked: string[] = [];
  const { looks, id, stored } = await looksAt(t, async ({ host }) => {
    asked.push(host);
    throw new TrustError('probe.connect', 'failed', 'cannot probe');
  });
  for (const more of [
    { state: 'provisioning' },
    { state: 'removing' },
    { observeOnly: true },
    { observed: null },
  ] as const) {
    stored.host = hostServing(OTHER, more);
    assert.equal(await looks.look(id), null);
  }
  assert.deepEqual(asked, []);
});

test('what changed while it was looked at says nothing', async (t) => {
  const { looks, id, stored, changes } = await looksAt(t, async () => {
    stored.host = hostServing(OTHER, { state: 'provisioning' });
    throw new TrustError('probe.connect', 'failed', 'cannot probe');
  });
  assert.equal(await looks.look(id), null);
  assert.deepEqual(changes, []);
});

test('a host that is gone is looked at no more', async (t) => {
  const { looks, id, stored } = await looksAt(t);
  await looks.look(id);
  stored.host = null;
  assert.equal(await looks.look(id), null);
  assert.equal(looks.of(id), null);
});
