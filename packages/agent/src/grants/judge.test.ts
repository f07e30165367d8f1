import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DAY, type Instant } from '@virt-trust/base/instant.ts';
import { madeUpPin } from '@virt-trust/channel/fixtures.ts';
import fc from 'fast-check';
import { grantFor } from './fixtures.ts';
import { judge } from './judge.ts';

const PINS = ['a', 'b', 'c'].map(madeUpPin);
const ADDRESSES = ['192.0.2.1', '192.0.2.2', '2001:db8::1'];
const OPERATIONS = ['preflight', 'create', 'status', 'rpc', 'stream', 'disks'] as const;
const START = Date.UTC(2026, 0, 1);

test('a peer is let in exactly where key, address, operation and time are those of the grant', () => {
  fc.assert(
    fc.property(
      fc.record({
        pins: fc.uniqueArray(fc.constantFrom(...PINS), { minLength: 1 }),
        addresses: fc.uniqueArray(fc.constantFrom(...ADDRESSES), { minLength: 1 }),
        operations: fc.uniqueArray(fc.constantFrom(...OPERATIONS)),
        begun: fc.boolean(),
        isThere: fc.boolean(),
        pin: fc.constantFrom(...PINS),
        address: fc.constantFrom(
          ...ADDRESSES,
          '::ffff:192.0.2.1',
          '2001:DB8:0::1',
          '',
          'unknown',
          '192.0.2.10',
        ),
        granted: fc.constantFrom(...OPERATIONS),
        goesOn: fc.boolean(),
        now: fc.constantFrom(START, START + 999, START + 1000, START + 1001, START + 1000 + DAY),
      }),
      ({ pins, addresses, operations, begun, isThere, pin, address, granted, goesOn, now }) => {
        const grant = grantFor(PINS[0] as string, {
          operations,
          notAfter: START + 1000,
          peer: { pins, addresses },
        });
        const held = isThere ? { grant, manager: madeUpPin('manager'), begun } : undefined;
        const judged = judge(held, grant.id, { pin, address }, { granted, goesOn }, now as Instant);
        const known = new Map([
          ['::ffff:192.0.2.1', '192.0.2.1'],
          ['2001:DB8:0::1', '2001:db8::1'],
        ]);
        const isInTime = now < START + 1000 || (begun && goesOn && now < START + 1000 + DAY);
        const expected =
          isThere &&
          pins.includes(pin) &&
          addresses.includes(known.get(address) ?? address) &&
          operations.includes(granted) &&
          isInTime;
        assert.equal(judged.kind === 'admitted', expected);
        if (judged.kind === 'refused' && !(isThere && pins.includes(pin)))
          assert.equal(judged.error.code, 'grant.none');
      },
    ),
    { numRuns: 2000 },
  );
});

test("SECURITY: that a grant is another host's cannot be told from that there is none", () => {
  const grant = grantFor(PINS[0] as string);
  const held = { grant, manager: madeUpPin('manager'), begun: false };
  const asking = { pin: PINS[1] as (typeof PINS)[0], address: '127.0.0.1' };
  const asked = { granted: 'status', goesOn: true } as const;
  const [theirs, none] = [held, undefined].map((one) => {
    const judged = judge(one, grant.id, asking, asked, START as Instant);
    return judged.kind === 'refused' ? { ...judged.error, message: judged.error.message } : judged;
  });
  assert.deepEqual(theirs, none);
});
