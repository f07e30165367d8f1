import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { DAY, HOUR, instant } from '@virt-trust/base/instant.ts';
import { generatePrivateKey } from '@virt-trust/pki/key.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { issueLeaf, makeAuthority, type TestAuthority } from '@virt-trust/pki/test-support.ts';
import fc from 'fast-check';
import { crlOf } from './fixtures.ts';
import type { CrlRecord } from './record.ts';
import { verifyDelivery } from './verify.ts';

const now = instant(Math.floor(Date.now() / 1000) * 1000);
const serials = (count: number) =>
  Array.from({ length: count }, (_, at) => (0x4000_0000_0000 + at).toString(16));

describe('A CRL that is delivered', () => {
  let ours: TestAuthority;
  let bundle: string;

  before(async () => {
    ours = await makeAuthority('ecdsa-p256-sha256', undefined, now);
    bundle = [ours.issuing, ours.root].map(({ der }) => encodePem('CERTIFICATE', der)).join('');
  });

  const deliver = (crl: string, known?: CrlRecord) =>
    verifyDelivery({ purpose: 'control', crl }, bundle, known, now);

  const refuses = (code: string, crl: string, known?: CrlRecord) =>
    assert.throws(() => deliver(crl, known), { code });

  function recordOf(pem: string): CrlRecord {
    const { installed, issuerPin } = deliver(pem);
    const more = { installedAt: now, failure: null };
    return { installed: { ...installed, ...more }, issuerPin, pem, pending: [], said: 'nothing' };
  }

  it('is taken with its number, dates and entries', () => {
    const { kind, installed } = deliver(crlOf(ours, 255, { serials: serials(3) }));
    assert.equal(kind, 'newer');
    assert.deepEqual([installed.number, installed.entries, installed.purpose], ['ff', 3, 'control']);
  });

  it('is taken with 1,000 entries that have reasons, and refused with one more', () => {
    assert.equal(
      deliver(crlOf(ours, 1, { serials: serials(1000), reason: 'keyCompromise' })).installed.entries,
      1000,
    );
    refuses('crl.too_large', crlOf(ours, 1, { serials: serials(1001) }));
  });

  it('is refused where another key signed it under the name of our authority', async () => {
    const forger = await generatePrivateKey('ecdsa-p256-sha256');
    refuses('crl.signature', crlOf({ issuer: { ...ours.issuer, key: forger } }, 9));
  });

  it('is refused where it is of another authority, of the root, or of an end certificate', async () => {
    const other = await makeAuthority('ecdsa-p256-sha256', undefined, now);
    // Of the same name, which the authorities of a test have.
    refuses('crl.signature', crlOf(other, 9));
    refuses('crl.issuer_unknown', crlOf({ issuer: ours.rootIssuer }, 9));
    const key = await generatePrivateKey('ecdsa-p256-sha256');
    const leaf = issueLeaf(ours.issuer, 'migration', key, {
      notBefore: instant(now - HOUR),
      notAfter: instant(now + DAY),
    });
    const impostor = { ...ours.issuer, key, certificate: { ...ours.issuing, subject: leaf.subject } };
    refuses('crl.issuer_unknown', crlOf({ issuer: impostor }, 9));
  });

  it('is refused where it is of the future or should have been replaced', () => {
    refuses('crl.not_yet_valid', crlOf(ours, 9, { thisUpdate: instant(now + 2 * HOUR) }));
    const old = { thisUpdate: instant(now - 3 * DAY), nextUpdate: instant(now - DAY) };
    refuses('crl.stale', crlOf(ours, 9, old));
  });

  it('is refused where it is older than the one that is installed, whatever the dates say', () => {
    const known = recordOf(crlOf(ours, 256));
    refuses('crl.older', crlOf(ours, 255, { thisUpdate: instant(now - HOUR) }), known);
    refuses('crl.number_reused', crlOf(ours, 256, { serials: serials(1) }), known);
    assert.equal(deliver(known.pem, known).kind, 'same');
    assert.equal(deliver(crlOf(ours, 257), known).kind, 'newer');
  });

  it('begins a count of its own where the authority is another than before', async () => {
    const former = await makeAuthority('ecdsa-p256-sha256', undefined, now);
    const formerBundle = encodePem('CERTIFICATE', former.issuing.der);
    const pem = crlOf(former, 5000);
    const { installed, issuerPin } = verifyDelivery(
      { purpose: 'control', crl: pem },
      formerBundle,
      undefined,
      now,
    );
    const known = {
      ...recordOf(crlOf(ours, 1)),
      installed: { ...installed, installedAt: now, failure: null },
      issuerPin,
    };
    assert.equal(deliver(crlOf(ours, 2), known).kind, 'newer');
  });

  it('is refused where it is not exactly one CRL', () => {
    const one = crlOf(ours, 9);
    refuses('crl.not_one', one + crlOf(ours, 8));
    refuses('crl.not_one', one + bundle);
    refuses('crl.not_one', one.replaceAll('X509 CRL', 'CRL'));
    refuses('der.malformed', encodePem('X509 CRL', Buffer.from('3000', 'hex')));
  });

  it('never makes the agent fall over, whatever bytes it is', () => {
    const der = Buffer.from(
      crlOf(ours, 9, { serials: serials(3) }).replace(/-----[^-]+-----|\n/g, ''),
      'base64',
    );
    fc.assert(
      fc.property(fc.nat(der.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const changed = Buffer.from(der);
        changed[at] = (changed[at] ?? 0) ^ flip;
        assert.throws(() => deliver(encodePem('X509 CRL', changed)), { name: 'TrustError' });
      }),
    );
    fc.assert(
      fc.property(fc.string(), (text) => {
        assert.throws(() => deliver(text), { name: 'TrustError' });
      }),
    );
  });
});
