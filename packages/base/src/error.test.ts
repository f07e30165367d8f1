import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeError, TrustError } from './error.ts';

test('an error is described with its causes, and what one of them said already is not said again', () => {
  const refused = new Error('connect ECONNREFUSED 192.0.2.1:16514');
  const probed = new TrustError('probe.connect', 'failed', `cannot probe 192.0.2.1: ${refused.message}`, {
    cause: new Error('it was asked to', { cause: refused }),
  });
  assert.equal(describeError(probed), `cannot probe 192.0.2.1: ${refused.message}: it was asked to`);
  assert.equal(describeError('thrown as it is'), 'thrown as it is');
});
