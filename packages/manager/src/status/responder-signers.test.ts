import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MINUTE } from '@virt-trust/base/instant.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { issuanceOn } from '../issuance/fixtures.ts';
import { settableClock, temporaryStore } from '../store/fixtures.ts';
import { ResponderSigners } from './responder-signers.ts';

test('SECURITY: where none can be certified, requests do not have it tried again and again', async (t) => {
  const clock = settableClock();
  const { authorities, issuance } = await issuanceOn(temporaryStore(t, clock).database, clock);
  let [tries, broken] = [0, true];
  const issueClient: typeof issuance.issueClient = async (order) => {
    tries += 1;
    if (broken) throw new Error('no room');
    return issuance.issueClient(order);
  };
  const signers = new ResponderSigners({ issuance: { issueClient }, clock, log: silentLog });
  const ask = async () => signers.signerOf(authorities.byPurpose('control'));
  for (let asked = 0; asked < 5; asked++) await assert.rejects(ask(), /no room/);
  assert.equal(tries, 1);
  clock.advance(MINUTE);
  await assert.rejects(ask(), /no room/);
  assert.equal(tries, 2);
  broken = false;
  clock.advance(-2 * MINUTE);
  assert.ok(await ask());
  assert.equal(tries, 3);
});
