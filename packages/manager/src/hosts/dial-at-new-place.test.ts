import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JobContext } from '../jobs/job.ts';
import { dialAtNewPlace } from './dial-at-new-place.ts';
import { testHost } from './fixtures.ts';
import type { Host } from './host.ts';
import type { HostsContext } from './ports.ts';

const MOVE = {
  to: { address: '203.0.113.7', port: 26515 },
  from: { address: '192.0.2.11', port: 16515 },
  sshFrom: 'root@192.0.2.11',
  channelOnly: false,
};

function dialling(state: object, wait: () => Promise<void> = async () => {}) {
  const channels = {
    of: async ({ channel }: Host) => {
      assert.deepEqual(channel, MOVE.to);
      return { agent: {}, state, waitUntilUp: wait };
    },
  };
  const job = {
    signal: new AbortController().signal,
    step: (_: string, run: (report: () => void) => Promise<void>) => run(() => {}),
  };
  return dialAtNewPlace(
    // Where it answers by now, as another has kept it.
    testHost('kvm1'),
    MOVE,
    { channels } as unknown as Pick<HostsContext, 'channels'>,
    job as unknown as JobContext,
  );
}

test('a host that has its key at the new address is found there', () =>
  dialling({ kind: 'up', host: '203.0.113.7' }));

test('nobody at the new address: both are named, with the way back', () =>
  assert.rejects(
    dialling({ kind: 'down', reason: new Error('connection refused') }, () =>
      Promise.reject(new Error('no channel')),
    ),
    {
      code: 'host.not_at_address',
      message:
        'cannot find host kvm1 at 203.0.113.7 port 26515, where it was said to be; before it was at 192.0.2.11 port 16515: connection refused',
      hint: 'if that was wrong, go back: virt-trust host set-address kvm1 192.0.2.11 --port 16515 --ssh root@192.0.2.11',
    },
  ));

test('SECURITY: a channel that came up elsewhere does not stand for the new address', () =>
  assert.rejects(dialling({ kind: 'up', host: '192.0.2.11' }), {
    code: 'host.not_at_address',
    message: /nobody with its key answers there, its agent answers at 192\.0\.2\.11/,
  }));
