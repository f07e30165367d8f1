import assert from 'node:assert/strict';
import { test } from 'node:test';
import { testInventory, testTlsFile } from './fixtures.ts';
import { foundFactsOf } from './found-facts.ts';

test('an identity is a certificate with its key and a CA; a CA alone is only trust', () => {
  const tlsFiles = [
    testTlsFile('libvirt', 'ca'),
    testTlsFile('libvirt', 'server-certificate'),
    testTlsFile('libvirt', 'server-key'),
    testTlsFile('migration', 'ca'),
    testTlsFile('migration', 'server-certificate'),
  ];
  const found = foundFactsOf(testInventory({ tlsFiles }));
  assert.deepEqual(found.identities, ['libvirt']);
  assert.deepEqual(found.authorities, ['libvirt', 'migration']);
});

test('links of our own are nothing found', () => {
  const tlsFiles = (['ca', 'server-certificate', 'server-key'] as const).map((role) =>
    testTlsFile('vnc', role, true),
  );
  const found = foundFactsOf(testInventory({ tlsFiles }));
  assert.deepEqual([found.identities, found.authorities], [[], []]);
});
