import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseKnownHosts } from './ssh-host-key.ts';

// From ssh-keygen -lf on this very key.
const KEY = 'AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsABgH5C9okWi0dh2l9GKJl';
const FINGERPRINT = 'SHA256:vquJBo6EvVfnHbyPmuwuOg4XGi4Cmti6ZX2fnFN0Ti0';

test('a fingerprint is what ssh-keygen prints', () => {
  assert.equal(parseKnownHosts(`host ssh-ed25519 ${KEY}`)[0]?.fingerprint, FINGERPRINT);
});

test('keys are read out of known_hosts, comments, markers and what is no key passed over', () => {
  const text = `# comment\n@revoked host ssh-ed25519 ${KEY}\nhost ssh-ed25519 ${KEY} note\nhost ssh-ed25519 !!!!\n\nhost nonsense ${KEY}\n`;
  assert.deepEqual(parseKnownHosts(text), [
    { algorithm: 'ssh-ed25519', key: `ssh-ed25519 ${KEY}`, fingerprint: FINGERPRINT },
  ]);
});

test('whatever ssh wrote, a key is one line of two words', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 2000 }), (text) => {
      for (const { key } of parseKnownHosts(text)) assert.match(key, /^\S+ \S+$/);
    }),
  );
});
