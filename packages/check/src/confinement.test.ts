import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { allowsReading } from './confinement.ts';

const RULES = `
  /etc/pki/CA/* r,
  /etc/pki/libvirt{,-spice,-vnc}/** r,
  /etc/pki/qemu/** rk,
  /var/lib/other/** w,
`;

test('AppArmor’s stock rules let QEMU read the directories of VNC and SPICE and no other', () => {
  for (const path of [
    '/etc/pki/CA/cacert.pem',
    '/etc/pki/libvirt-vnc/server-cert.pem',
    '/etc/pki/libvirt/x/y',
    '/etc/pki/qemu/a',
  ])
    assert.ok(allowsReading(RULES, path), path);
  for (const path of ['/etc/pki/CA/a/b', '/etc/pki/libvirt-migrate/a', '/var/lib/other/a', '/etc/pki/qemu'])
    assert.ok(!allowsReading(RULES, path), path);
});

test('whatever stands in the rules, there is an answer', () => {
  fc.assert(
    fc.property(fc.string(), (text) => assert.equal(typeof allowsReading(`/${text} r,`, '/a/b'), 'boolean')),
  );
});
