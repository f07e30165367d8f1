import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { orderOf } from './fixtures.ts';
import { operatorNeeded } from './outcome.ts';

const broke = new Error('broken pipe');
const UUID = '11111111-2222-4333-8444-555555555555';
const STREAM = { address: 'fd00::2', listenAddress: null, tlsDestination: null };

describe('what an operator is told of a post-copy that broke', () => {
  for (const place of ['post-copy-failed', 'post-copy-unknown'] as const) {
    const hintOf = (order: Parameters<typeof orderOf>[0]) =>
      operatorNeeded({ ...orderOf(order), uuid: UUID }, place, 'finish', broke).error?.hint ?? '';

    it(`has a way to libvirt that hosts have, and QEMU's TLS where it had it (${place})`, () => {
      const hint = hintOf({ mode: 'tls', stream: STREAM });
      assert.match(
        hint,
        /virsh -c qemu\+ssh:\/\/root@host-a\/system migrate --live --postcopy --postcopy-resume --tls --migrateuri tcp:\/\/\[fd00::2\] vm qemu\+ssh:\/\/root@host-b\/system/,
      );
      assert.doesNotMatch(hint, /in the clear|qemu\+tls/);
      assert.match(hint, /on host-b: ss -K/);
    });

    it(`says that it goes in the clear where the agents carried it before (${place})`, () => {
      const hint = hintOf({ mode: 'pinned', stream: null });
      assert.match(hint, /--postcopy-resume vm qemu\+ssh:\/\/root@host-b\/system, .* in the clear/);
      // The end of the agents' channel was QEMU's, too.
      assert.doesNotMatch(hint, /ss -K|--tls|--migrateuri/);
    });
  }
});
