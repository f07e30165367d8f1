import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { beforeEach, test } from 'node:test';
import { instant } from '@virt-trust/base/instant.ts';
import type { Purpose } from '@virt-trust/contract/model/service.ts';
import { makeAuthority, type TestAuthority } from '../apply/fixtures.ts';
import { crlOf } from '../crl/fixtures.ts';
import { crlDocument } from '../crl/record.ts';
import { verifyDelivery } from '../crl/verify.ts';
import { temporaryRoot } from '../fixtures.ts';
import { type AgentPaths, agentPaths } from '../state/paths.ts';
import { controlCrlOf, refuseRevokedDestination } from './revocation.ts';

const now = instant(Date.now());
const NOT_REVOKED = '5eed5eed';
const REVOKED = '0badc0de0badc0de';
let authority: TestAuthority;
let other: TestAuthority;

beforeEach(async () => {
  [authority, other] = await Promise.all([makeAuthority('Ours'), makeAuthority('Other')]);
});

async function install(paths: AgentPaths, purpose: Purpose, pem: string): Promise<void> {
  const { installed, issuerPin } = verifyDelivery({ purpose, crl: pem }, authority.pem, undefined, now);
  await mkdir(paths.agent, { recursive: true });
  const whole = { ...installed, installedAt: now, failure: null };
  await crlDocument(paths).write({
    crls: [{ installed: whole, issuerPin, pem, pending: [], said: 'nothing' }],
  });
}

test('a source refuses a destination whose migration certificate its own CRL names, and no other', async (t) => {
  const paths = agentPaths(await temporaryRoot(t));
  const to = (migrationSerialNumber: string) =>
    refuseRevokedDestination(paths, {
      vm: 'vm',
      to: 'host-b',
      tls: {
        migrationSerialNumber,
        controlBundle: authority.pem,
        controlCrl: null,
        subject: { commonName: 'virt-trust migration 1', organization: 'Example' },
      },
    });
  await to(REVOKED);
  await install(paths, 'migration', crlOf(authority, 1, { serials: [REVOKED], reason: 'keyCompromise' }));
  await to(NOT_REVOKED);
  for (const serial of [REVOKED, `00${REVOKED}`])
    await assert.rejects(to(serial), { code: 'migration.destination_revoked', category: 'denied' });
  // That of another purpose has nothing to say on it.
  await install(paths, 'control', crlOf(authority, 1, { serials: [REVOKED] }));
  await to(REVOKED);
});

test("libvirt's client is given the newer of the CRL of the order and that of the host", async (t) => {
  const paths = agentPaths(await temporaryRoot(t));
  const [older, newer] = [crlOf(authority, 1), crlOf(authority, 0x10)];
  const order = (controlCrl: string | null) => ({ controlCrl, controlBundle: authority.pem });
  assert.equal(await controlCrlOf(paths, order(null)), undefined);
  assert.equal(await controlCrlOf(paths, order(older)), older);
  await install(paths, 'control', newer);
  assert.equal(await controlCrlOf(paths, order(null)), newer);
  assert.equal(await controlCrlOf(paths, order(older)), newer);
  const newest = crlOf(authority, 0x11);
  assert.equal(await controlCrlOf(paths, order(newest)), newest);
  // Of an authority that the order does not trust.
  assert.equal(await controlCrlOf(paths, { controlCrl: null, controlBundle: other.pem }), undefined);
});

test("a CRL of an order is refused where it is not the authority's, and used where it is overdue", async (t) => {
  const paths = agentPaths(await temporaryRoot(t));
  const order = (controlCrl: string) => ({ controlCrl, controlBundle: authority.pem });
  await assert.rejects(controlCrlOf(paths, order(crlOf(other, 9))), { code: 'crl.issuer_unknown' });
  const forged = crlOf({ issuer: { ...authority.issuer, key: other.issuer.key } }, 9);
  await assert.rejects(controlCrlOf(paths, order(forged)), { code: 'crl.signature' });
  const overdue = crlOf(authority, 9, { thisUpdate: instant(1e12), nextUpdate: instant(1.1e12) });
  assert.equal(await controlCrlOf(paths, order(overdue)), overdue);
});
