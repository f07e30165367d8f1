import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfiguration } from '@virt-trust/libvirt/configuration.ts';
import { applyEdits } from './configuration-edits.ts';
import { consoleEdits } from './console-settings.ts';

const FOUND = `vnc_listen = "192.0.2.1"
vnc_auto_unix_socket = 1
vnc_password = "of old"
spice_tls = 0
`;

function edited(consoles: Parameters<typeof consoleEdits>[0], found = '', ipv6 = true): string {
  const before = parseConfiguration(found);
  const now = parseConfiguration(found);
  applyEdits(now, before, consoleEdits(consoles, before, ipv6), []);
  return now.toString();
}

function value(text: string, key: string) {
  return parseConfiguration(text).get(key);
}

test('displays stay as they were found, unless they shall leave loopback', () => {
  assert.equal(edited('keep', FOUND), FOUND);
});

test('SECURITY: where passwords are asked for, TLS is on and the password is one that lets nobody in', () => {
  const text = edited('with-password', FOUND);
  for (const type of ['vnc', 'spice']) {
    assert.equal(value(text, `${type}_listen`), '::');
    assert.equal(value(text, `${type}_tls`), 1);
    assert.equal(value(text, `${type}_password`), '');
  }
  assert.equal(value(text, 'vnc_auto_unix_socket'), undefined);
});

test('SECURITY: where certificates are asked for, VNC alone leaves loopback, because SPICE can ask for none', () => {
  const text = edited('with-certificate');
  assert.equal(value(text, 'vnc_listen'), '::');
  assert.equal(value(text, 'vnc_tls'), 1);
  assert.equal(value(text, 'vnc_tls_x509_verify'), 1);
  // The certificate of a broken host is one, too.
  assert.equal(value(text, 'vnc_password'), '');
  assert.doesNotMatch(text, /spice/);
});

test('a kernel without IPv6 gets the wildcard that it has', () => {
  assert.equal(value(edited('with-password', '', false), 'vnc_listen'), '0.0.0.0');
});

test('what was found comes back', () => {
  const found = parseConfiguration(FOUND);
  const now = parseConfiguration(FOUND);
  const edits = consoleEdits('with-password', found, true);
  applyEdits(now, found, edits, []);
  assert.notEqual(now.toString(), FOUND);
  applyEdits(
    now,
    found,
    consoleEdits('keep', found, true),
    edits.map(({ key }) => key),
  );
  for (const key of ['vnc_listen', 'vnc_auto_unix_socket', 'vnc_password', 'spice_tls', 'spice_listen'])
    assert.deepEqual(now.get(key), found.get(key), key);
});
