import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import fc from 'fast-check';
import { inTurns, isAmong, notSeenFromHere, parseLocalRoutes, reachesOf, readOwnAddresses } from './reach.ts';

const OWN = ['192.0.2.11', '198.51.100.11', '2001:db8::11'];
const at = (...addresses: string[]) => addresses.map((address) => ({ address, isEndpoint: true }));

test('a wildcard listener is looked at on every endpoint address of the families that it serves', () => {
  assert.deepEqual(reachesOf('vnc', '0.0.0.0', OWN), at('192.0.2.11', '198.51.100.11'));
  assert.deepEqual(reachesOf('vnc', '::', OWN), at(...OWN));
  assert.deepEqual(reachesOf('vnc', '', OWN), at(...OWN));
  assert.deepEqual(reachesOf('spice', '::', OWN), at(...OWN));
  assert.deepEqual(reachesOf('spice', '', OWN), at('192.0.2.11', '198.51.100.11'));
});

test('a wildcard listener that no endpoint leads to is looked at on the loopback', () => {
  const loopback = [{ address: '127.0.0.1', isEndpoint: false }];
  assert.deepEqual(reachesOf('vnc', '0.0.0.0', []), loopback);
  assert.deepEqual(reachesOf('vnc', '0.0.0.0', ['2001:db8::11']), loopback);
  assert.deepEqual(reachesOf('vnc', '::', []), loopback);
});

test('a listener on one address is looked at there, as an endpoint where it is one', () => {
  assert.deepEqual(reachesOf('vnc', '127.0.0.1', OWN), [{ address: '127.0.0.1', isEndpoint: false }]);
  assert.deepEqual(reachesOf('vnc', '192.0.2.11', OWN), at('192.0.2.11'));
  assert.deepEqual(reachesOf('spice', '2001:db8:0::11', OWN), at('2001:db8:0::11'));
  assert.deepEqual(reachesOf('spice', 'host-a', OWN), [{ address: 'host-a', isEndpoint: false }]);
});

test('own addresses are those of the local routing tables and the loopback', async () => {
  const asked: string[] = [];
  const run: RunHostCommand = async (_, args) => {
    asked.push(args[0] as string);
    const routes =
      args[0] === '-4'
        ? [
            { type: 'local', dst: '192.0.2.11', dev: 'eth0' },
            { type: 'local', dst: '127.0.0.0/8', dev: 'lo' },
          ]
        : [{ type: 'local', dst: '2001:db8::11', dev: 'eth0' }];
    return { code: 0, stdout: JSON.stringify(routes), stderr: '' };
  };
  const isOwn = await readOwnAddresses(run);
  assert.deepEqual(asked.toSorted(), ['-4', '-6']);
  for (const own of ['192.0.2.11', '2001:db8:0:0::11', '127.0.0.1', '127.1.2.3', '::1'])
    assert.equal(isOwn(own), true, own);
  for (const other of ['192.0.2.12', '2001:db8::12', 'host-a', '127.0.0.0/8'])
    assert.equal(isOwn(other), false, other);
  assert.match(notSeenFromHere(['192.0.2.11', '203.0.113.9'], isOwn), /own: 203\.0\.113\.9$/);
  assert.equal(notSeenFromHere(['192.0.2.11'], isOwn), '');
});

test('a family that the kernel lacks has no addresses', async () => {
  const isOwn = await readOwnAddresses(async (_, args) => ({
    code: args[0] === '-6' ? 2 : 0,
    stdout: args[0] === '-6' ? '' : '[{"dst":"192.0.2.11"}]',
    stderr: '',
  }));
  assert.equal(isOwn('192.0.2.11'), true);
  assert.equal(isOwn('2001:db8::11'), false);
});

test('whatever ip prints, addresses come out of it', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      for (const address of parseLocalRoutes(text)) assert.equal(isAmong(address, [address]), true);
    }),
  );
});

test('where there are too many places, every display has one before any has two', () => {
  assert.deepEqual(inTurns([['a1', 'a2', 'a3'], [], ['b1'], ['c1', 'c2']]), [
    'a1',
    'b1',
    'c1',
    'a2',
    'c2',
    'a3',
  ]);
  assert.deepEqual(inTurns([]), []);
});
