import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { instant, MINUTE } from '@virt-trust/base/instant.ts';
import { Patience } from './patience.ts';

function patienceAt(t: TestContext) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  return new Patience(MINUTE, { now: () => instant(0) });
}

test('patience ends after its time, with a reason', async (t) => {
  using patience = patienceAt(t);
  const over = once(patience.signal, 'abort');
  t.mock.timers.tick(MINUTE - 1);
  assert.equal(patience.signal.aborted, false);
  t.mock.timers.tick(1);
  await over;
  assert.ok(isTrustError(patience.signal.reason, 'host.slow'));
});

test('a host that says until when it waits is given its time after that', (t) => {
  using patience = patienceAt(t);
  patience.extend(60 * MINUTE);
  t.mock.timers.tick(61 * MINUTE - 1);
  assert.equal(patience.signal.aborted, false);
  t.mock.timers.tick(1);
  assert.equal(patience.signal.aborted, true);
});
