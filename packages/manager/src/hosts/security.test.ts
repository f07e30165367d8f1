import assert from 'node:assert/strict';
import { test } from 'node:test';
import { instant } from '@virt-trust/base/instant.ts';
import type { HostCapabilities } from '@virt-trust/contract/model/capabilities.ts';
import { testCapabilities } from '@virt-trust/contract/model/fixtures.ts';
import { settledState, testHost } from './fixtures.ts';
import type { Host } from './host.ts';
import { summaryOf } from './host-view.ts';
import { securityOf, type TlsSwitch } from './security.ts';

const ON: TlsSwitch = { enabled: true, from: 'default' };
const ALL = testCapabilities({ libvirtTcp: null });

function judged(capabilities: HostCapabilities | null, more: Partial<Host> = {}, tls = ON) {
  return securityOf(testHost('kvm1', { observed: settledState('ours', { capabilities }), ...more }), tls);
}

test('a host that has not reported counts as not secured, whatever else is known of it', () => {
  for (const host of [testHost('kvm1', { observed: null }), testHost('kvm1')]) {
    const { reported, modes, missing, mend } = securityOf(host, ON);
    assert.deepEqual([reported, modes], [false, []]);
    assert.deepEqual(missing, ['its agent has not reported what it can do']);
    assert.equal(mend, 'virt-trust host provision kvm1 --reconnect');
  }
});

test('a host that lacks nothing is secured, and says which modes it has', () => {
  assert.deepEqual(judged(ALL), { reported: true, modes: ['tls', 'pinned'], missing: [], mend: '', tls: ON });
  const tcp = { addresses: ['*'], port: 16509, authentication: 'none' };
  assert.deepEqual(judged({ ...ALL, libvirtTcp: tcp }).modes, ['tls', 'pinned', 'plain']);
  assert.deepEqual(judged({ ...ALL, libvirtTcp: tcp, migrateTlsForce: true }).modes, ['tls']);
});

test('each thing that is missing is said, with what mends it', () => {
  const { modes, missing, mend } = judged({
    ...ALL,
    libvirtTls: null,
    nativeTls: false,
    nativeTlsLacks: 'there is no CA file (/etc/pki/qemu)',
  });
  assert.deepEqual(modes, ['pinned']);
  assert.deepEqual(missing, ['libvirt does not listen with TLS', 'there is no CA file (/etc/pki/qemu)']);
  assert.equal(mend, 'virt-trust host provision kvm1');
});

test('a listener that only the host itself reaches, or that asks for a password, is none for migrations', () => {
  const at = (...addresses: string[]) => ({ addresses, port: 16514 });
  const deaf = judged({ ...ALL, libvirtTls: at('127.0.0.1', '::1') });
  assert.deepEqual([deaf.modes, deaf.missing], [['pinned'], ['libvirt does not listen with TLS']]);
  assert.deepEqual(judged({ ...ALL, libvirtTls: at('127.0.0.1', '192.0.2.7') }).missing, []);
  const tcp = (authentication: string, ...addresses: string[]) =>
    judged({ ...ALL, libvirtTcp: { addresses, port: 16509, authentication } }).modes.includes('plain');
  assert.deepEqual([tcp('none', '*'), tcp('sasl', '*'), tcp('none', '127.0.0.1')], [true, false, false]);
});

test('where libvirt is stopped the mend starts it: provisioning alone would not', () => {
  const stopped = { ...ALL, libvirtTls: null, pinned: false };
  const { modes, missing, mend } = judged(stopped);
  assert.deepEqual([modes, missing], [[], ['libvirt is stopped, or does not answer']]);
  assert.equal(mend, 'ssh root@kvm1 systemctl start libvirtd && virt-trust host provision kvm1');
  const ssh = { ...testHost('kvm1').ssh, destination: 'adam@kvm1' };
  assert.match(judged(stopped, { ssh }).mend, /^ssh adam@kvm1 sudo systemctl start libvirtd /);
  // It answers, and listens for nobody but those on the host.
  assert.equal(judged({ ...ALL, libvirtTls: null }).mend, 'virt-trust host provision kvm1');
});

test('a host whose TLS is switched off says by which setting, and what switches it on', () => {
  const off = { ...ALL, libvirtTls: null, nativeTls: false, nativeTlsLacks: 'none' };
  for (const [from, what, mend] of [
    ['global', /off everywhere/, 'virt-trust setting set kvm.libvirtd.tls.enabled on'],
    [
      'cluster',
      /off for cluster default/,
      'virt-trust setting set kvm.libvirtd.tls.enabled on --cluster default',
    ],
    ['host', /off for host kvm1/, 'virt-trust setting set kvm.libvirtd.tls.enabled on --host kvm1'],
  ] as const) {
    const security = judged(off, {}, { enabled: false, from });
    assert.match(security.missing[0] ?? '', what);
    assert.equal(security.mend, mend);
    assert.deepEqual(security.tls, { enabled: false, from });
  }
});

test('a host that is only observed, or was revoked, is not secured although it serves certificates', () => {
  const observed = judged(ALL, { observeOnly: true });
  assert.equal(observed.modes.includes('tls'), false);
  assert.equal(observed.mend, 'virt-trust host add kvm1 --ssh root@kvm1');
  const revoked = judged(ALL, { revoked: { at: instant(0), reason: 'keyCompromise', comment: '' } });
  assert.deepEqual(revoked.modes, [], 'it takes part in no migration');
  assert.equal(revoked.mend, 'virt-trust host provision kvm1');
});

test('a host is shown as secured only where it reported what it is to be, and else says what it lacks', () => {
  const up = { channel: null, lostAt: null };
  const shown = (capabilities: HostCapabilities | null, more: Partial<Host> = {}, tls = ON) => {
    const host = testHost('kvm1', { observed: settledState('ours', { capabilities }), ...more });
    const { state, reason } = summaryOf(host, up, { warning: 0, critical: 0, first: null }, tls);
    return [state, reason];
  };
  assert.deepEqual(shown(ALL), ['secured', null]);
  assert.deepEqual(shown(null), ['unsecured', 'its agent has not reported what it can do']);
  const deaf = { ...ALL, libvirtTls: null };
  assert.deepEqual(shown(deaf), ['unsecured', 'libvirt does not listen with TLS']);
  assert.deepEqual(shown(ALL, {}, { enabled: false, from: 'global' }), [
    'unsecured',
    'TLS is switched off: kvm.libvirtd.tls.enabled is off everywhere',
  ]);
  // What is under way, or failed, says more.
  assert.deepEqual(shown(deaf, { state: 'provisioning' }), ['provisioning', null]);
  assert.deepEqual(shown(deaf, { state: 'failed', reason: 'no' }), ['failed', 'no']);
});
