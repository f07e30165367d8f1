import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { backOffDelay } from './backoff.ts';

test('the delay doubles with each failure, within half and all of the bound', () => {
  fc.assert(
    fc.property(fc.nat({ max: 1000 }), fc.uint8Array({ minLength: 2, maxLength: 2 }), (failures, random) => {
      const delay = backOffDelay({ firstMs: 500, maxMs: 60_000 }, failures, { bytes: () => random });
      const full = failures === 0 ? 0 : Math.min(60_000, 500 * 2 ** (failures - 1));
      assert.ok(delay >= full / 2 && delay <= full, `${delay} of ${full}`);
    }),
  );
});
