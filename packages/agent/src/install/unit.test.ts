import assert from 'node:assert/strict';
import { test } from 'node:test';
import { guardUnitText, unitText } from './unit.ts';

const valuesOf = (text: string, key: string) =>
  text.split('\n').flatMap((line) => (line.startsWith(`${key}=`) ? [line.slice(key.length + 1)] : []));

test("systemd.unit(5): the guard is done before libvirt's services and sockets, and nothing requires it", () => {
  const text = guardUnitText(['/usr/local/lib/virt-trust/virt-trust', 'agent', 'guard']);
  const before = valuesOf(text, 'Before').join(' ').split(' ');
  for (const unit of [
    'libvirtd.service',
    'libvirtd.socket',
    'libvirtd-tls.socket',
    'virtproxyd-tls.socket',
    'virtqemud.service',
    'virtqemud.socket',
    'virt-trust-agent.service',
  ])
    assert.ok(before.includes(unit), unit);
  assert.deepEqual(valuesOf(text, 'DefaultDependencies'), ['no']);
  for (const key of ['Requires', 'Requisite', 'BindsTo', 'RequiredBy', 'OnFailure'])
    assert.deepEqual(valuesOf(text, key), [], key);
  assert.deepEqual(valuesOf(text, 'ExecStart'), ['-/usr/local/lib/virt-trust/virt-trust agent guard']);
  const [bound = ''] = valuesOf(text, 'TimeoutStartSec');
  assert.ok(Number(bound) > 0 && Number(bound) <= 30);
  assert.doesNotMatch(unitText(['x']), /guard/);
});

test('systemd.exec(5): the agent hears of addresses and of the host name as they change', () => {
  const text = unitText(['x']);
  assert.ok(valuesOf(text, 'RestrictAddressFamilies').join(' ').split(' ').includes('AF_NETLINK'));
  assert.deepEqual(valuesOf(text, 'PrivateNetwork'), []);
  assert.deepEqual(valuesOf(text, 'ProtectHostname'), []);
  const capabilities = valuesOf(text, 'CapabilityBoundingSet').join(' ');
  assert.doesNotMatch(capabilities, /CAP_SYS_ADMIN/);
});
