import assert from 'node:assert/strict';
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import fc from 'fast-check';
import { identityOf } from './fixtures.ts';
import { createChannelIdentity, loadChannelIdentity } from './identity.ts';

test('an identity is read back from its two PEM texts with the same pin', () => {
  const { role, certificatePem, privateKeyPem, pin } = identityOf('agent');
  assert.equal(loadChannelIdentity({ role, certificatePem, privateKeyPem }).pin, pin);
});

test('RFC 5280 §4.1.2.5: an identity of our own making never expires and is read back', async () => {
  const made = await createChannelIdentity({ role: 'manager', randomness: systemRandomness });
  const { role, certificatePem, privateKeyPem } = made;
  assert.equal(loadChannelIdentity({ role, certificatePem, privateKeyPem }).pin, made.pin);
  const certificate = new X509Certificate(certificatePem);
  assert.equal(certificate.validToDate.toISOString(), '9999-12-31T23:59:59.000Z');
  assert.equal(certificate.verify(certificate.publicKey), true);
});

test('nothing that prints an identity shows its private key', () => {
  const identity = identityOf('manager');
  const secret = identity.privateKeyPem.split('\n')[1] ?? '';
  assert.ok(secret.length > 40);
  const printed = [
    inspect(identity, { showHidden: true, depth: 9, getters: true }),
    inspect({ nested: [identity] }),
    JSON.stringify({ identity }),
    JSON.stringify({ ...identity }),
    String(identity),
  ].join();
  assert.equal(printed.includes(secret), false);
  assert.equal(printed.includes('PRIVATE'), false);
});

test('an identity whose parts do not belong together is refused without quoting them', () => {
  const one = identityOf('agent');
  const other = identityOf('agent');
  const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey.export({
    type: 'pkcs8',
    format: 'pem',
  });
  const cases: [string, string, RegExp][] = [
    [one.certificatePem, other.privateKeyPem, /not that of the certificate/],
    [one.certificatePem, p384.toString(), /not EC P-256/],
    [one.certificatePem + other.certificatePem, one.privateKeyPem, /not one PEM certificate/],
    [one.privateKeyPem, one.privateKeyPem, /not one PEM certificate/],
    [one.certificatePem, one.certificatePem, /not PKCS #8/],
    [one.certificatePem, '', /not PKCS #8/],
    [one.certificatePem.repeat(100), one.privateKeyPem, /too large/],
  ];
  for (const [certificatePem, privateKeyPem, message] of cases) {
    assert.throws(() => loadChannelIdentity({ role: 'agent', certificatePem, privateKeyPem }), {
      code: 'channel.identity_malformed',
      message,
    });
  }
});

test('a damaged identity is refused by name, whatever the damage', () => {
  const { certificatePem, privateKeyPem, pin } = identityOf('agent');
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.nat({ max: certificatePem.length }),
      fc.nat({ max: 20 }),
      fc.string({ maxLength: 20 }),
      (ofKey, at, cut, text) => {
        const damage = (pem: string) => pem.slice(0, at) + text + pem.slice(at + cut);
        try {
          const loaded = loadChannelIdentity({
            role: 'agent',
            certificatePem: ofKey ? certificatePem : damage(certificatePem),
            privateKeyPem: ofKey ? damage(privateKeyPem) : privateKeyPem,
          });
          // Damage to what is not looked at, such as the subject, may pass; the key may not change.
          assert.equal(loaded.pin, pin);
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'channel.identity_malformed');
          assert.equal((error as Error).cause, undefined);
        }
      },
    ),
    { numRuns: 300 },
  );
});
