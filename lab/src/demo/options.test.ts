import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { aloneDirectory } from './manager-alone.ts';
import { parseOptions } from './options.ts';

test('without options the lab is booted and stays up', () => {
  assert.deepEqual(parseOptions([]), { exit: false, lab: true, name: 'demo', port: 16516 });
});

test('options are read, and help wins', () => {
  assert.deepEqual(parseOptions(['--exit', '--no-lab', '--name', 'x', '--port=1']), {
    exit: true,
    lab: false,
    name: 'x',
    port: 1,
  });
  assert.equal(parseOptions(['--exit', '-h']), 'help');
});

for (const args of [
  ['--bogus'],
  ['word'],
  ['--port', '0'],
  ['--port', '65536'],
  ['--port', '1x'],
  ['--name'],
])
  test(`${args.join(' ')} is refused as wrong input`, () => {
    assert.throws(
      () => parseOptions(args),
      (error) => isTrustError(error, 'start.usage') && error.category === 'invalid',
    );
  });

test('a manager alone keeps its state where its user may write', () => {
  assert.equal(aloneDirectory(true, undefined, '/root'), '/var/lib/virt-trust-manager');
  assert.equal(aloneDirectory(true, '/tmp/s', '/root'), '/tmp/s/virt-trust-manager');
  assert.equal(aloneDirectory(false, '', '/home/u'), '/home/u/.local/state/virt-trust-manager');
});
