import assert from 'node:assert/strict';
import { test } from 'node:test';
import { testInventory, testTlsFile } from './fixtures.ts';
import { foundFactsOf, withNewServices } from './found-facts.ts';

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

test('files of a client alone are an identity for disks over NBD, and for nothing else', () => {
  const tlsFiles = (['nbd', 'backup', 'migration'] as const).flatMap((service) =>
    (['ca', 'client-certificate', 'client-key'] as const).map((role) => testTlsFile(service, role)),
  );
  assert.deepEqual(foundFactsOf(testInventory({ tlsFiles })).identities, ['nbd']);
});

test('what was found before storage was known is completed by it once, and by nothing else', () => {
  const { lookedAt: _, ...before } = foundFactsOf(testInventory({ tlsFiles: [testTlsFile('vnc', 'ca')] }));
  const tlsFiles = (['vnc', 'nbd', 'backup'] as const).flatMap((service) =>
    (['ca', 'server-certificate', 'server-key'] as const).map((role) => testTlsFile(service, role)),
  );
  const completed = withNewServices(before, testInventory({ tlsFiles }));
  assert.deepEqual(completed.identities, ['nbd', 'backup']);
  assert.deepEqual(completed.authorities, ['vnc', 'nbd', 'backup']);
  assert.equal(withNewServices(completed, testInventory({ tlsFiles: [] })), completed);
});
