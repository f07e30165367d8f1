import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { instant } from '@virt-trust/base/instant.ts';
import { generatePrivateKey, spkiOfKey } from '@virt-trust/pki/key.ts';
import { mergeBundle } from './bundle.ts';
import { issue, makeAuthority } from './fixtures.ts';

const now = instant(Date.now());

describe('mergeBundle', () => {
  it('trusts ours first, then the found CA, each certificate once', async () => {
    const [ours, found] = await Promise.all([makeAuthority('Ours'), makeAuthority('Found')]);
    const merged = mergeBundle(ours.pem, [found.pem + ours.pem, `# comment\n${found.pem}`], now);
    assert.equal(merged.pem, ours.pem + found.pem);
    assert.deepEqual(merged.leftOut, []);
  });

  it('leaves out a found CA that has expired, with which libvirtd would not start', async () => {
    const [ours, expired] = await Promise.all([makeAuthority('Ours'), makeAuthority('Old', -1)]);
    const merged = mergeBundle(ours.pem, [expired.pem], now);
    assert.equal(merged.pem, ours.pem);
    assert.deepEqual(merged.leftOut, ['CN=Old,O=Example has expired']);
  });

  it('never takes an end certificate of a found CA file as an anchor', async () => {
    const [ours, found] = await Promise.all([makeAuthority('Ours'), makeAuthority('Found')]);
    const leaf = issue(found, { spki: spkiOfKey(await generatePrivateKey('ecdsa-p256-sha256')) });
    const merged = mergeBundle(ours.pem, [leaf], now);
    assert.equal(merged.pem, ours.pem);
    assert.deepEqual(merged.leftOut, ['CN=host-a,O=Example is no authority']);
  });

  it('refuses more authorities than libvirt reads', async () => {
    const ours = await makeAuthority('Ours');
    const found = await Promise.all(Array.from({ length: 16 }, (_, index) => makeAuthority(`CA ${index}`)));
    assert.throws(
      () => mergeBundle(ours.pem, [found.map(({ pem }) => pem).join('')], now),
      (error) => isTrustError(error, 'bundle.too_large'),
    );
  });
});
