import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HostSummary } from '@virt-trust/contract/model/host.ts';
import { fleetSecurityLines, securityCell } from './fleet-security.ts';

const on = { enabled: true, from: 'default' } as const;

function host(name: string, missing: string[], more: Partial<HostSummary['security']> = {}) {
  const modes: HostSummary['security']['modes'] = missing.length === 0 ? ['tls', 'pinned'] : ['plain'];
  const mend = missing.length === 0 ? '' : `virt-trust host provision ${name}`;
  const up = { state: 'secured', channel: 'up' } as const;
  return { name, ...up, security: { reported: true, modes, missing, mend, tls: on, ...more } };
}

test('a fleet that is secured whole is said to be so, and nothing more', () => {
  assert.deepEqual(fleetSecurityLines([host('a', []), host('b', [])]), ['2 of 2 hosts secured']);
  assert.deepEqual(fleetSecurityLines([]), []);
});

test('a mixed fleet is shown as such, with what each host lacks and what mends it', () => {
  const off = {
    mend: 'virt-trust setting set kvm.libvirtd.tls.enabled on --cluster old',
    tls: { enabled: false, from: 'cluster' },
  } as const;
  const lines = fleetSecurityLines([
    host('a', []),
    host('b', ['libvirt does not listen with TLS']),
    host('c', ['TLS is switched off'], off),
    host('d', ['TLS is switched off'], off),
    host('e', ['libvirt does not listen with TLS']),
  ]);
  assert.deepEqual(lines, [
    '1 of 5 hosts secured; the others lack:',
    '  b, e: libvirt does not listen with TLS; mend it with: virt-trust host provision b, and likewise for the others',
    '  c, d: TLS is switched off; mend it with: virt-trust setting set kvm.libvirtd.tls.enabled on --cluster old',
  ]);
});

test('of many hosts with one lack some are named and the rest counted', () => {
  const hosts = Array.from({ length: 12 }, (_, index) => host(`kvm${index}`, ['no QEMU']));
  assert.match(fleetSecurityLines(hosts)[1] ?? '', /kvm7 and 4 more: no QEMU/);
});

test('a host that has not reported is no secured one, whatever else is known of it', () => {
  assert.equal(
    securityCell(host('a', [], { reported: false, modes: [], missing: ['its agent has not reported'] })),
    'not reported',
  );
  assert.equal(securityCell(host('a', [])), 'tls pinned');
  assert.equal(securityCell(host('a', ['x'], { modes: [] })), 'none');
});

test('a host without an agent is one of the fleet, and not secured', () => {
  assert.deepEqual(fleetSecurityLines([host('a', [])], [{ name: 'old', address: '192.0.2.7' }]), [
    '1 of 2 hosts secured; the others lack:',
    '  old: it has no agent; mend it with: virt-trust host remove old && virt-trust host add old --ssh root@192.0.2.7',
  ]);
});

test('a host that is away is secured by its last report alone, and one that failed is none of the secured', () => {
  const away = { ...host('b', []), channel: 'down' } as const;
  const failed = { ...host('c', []), state: 'failed' } as const;
  assert.deepEqual(
    fleetSecurityLines([host('a', []), away, { ...host('d', ['x']), channel: 'down' }, failed]),
    [
      '2 of 4 hosts secured (by its last report: b, now away); the others lack:',
      '  d: x; mend it with: virt-trust host provision d',
      '  c: its last provisioning failed; mend it with: virt-trust host provision c',
    ],
  );
});
