import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { TrustError } from '@virt-trust/base/error.ts';
import { printable, writeError, writeJson, writeTable } from './output.ts';

/** What was written to a stream while `write` ran. */
function written(t: TestContext, stream: NodeJS.WriteStream, write: () => void): string {
  const spy = t.mock.method(stream, 'write', () => true);
  write();
  spy.mock.restore();
  return spy.mock.calls.map((call) => String(call.arguments[0])).join('');
}

test('control characters and turned text of others cannot steer the terminal', () => {
  assert.equal(printable('a\u001b[2J\u0007\u009b\u202eb\u2066\tc'), 'a�[2J���b�\tc');
  assert.equal(printable('Grüße ✔'), 'Grüße ✔');
});

test('RFC 8259 §7: JSON steers no terminal either, and says the same', (t) => {
  const value = { 'ke\u009by': ['a\u001b[2J\u009b2J\u202eb\u2066', 'Grüße ✔'] };
  const text = written(t, process.stdout, () => writeJson(value));
  assert.deepEqual(JSON.parse(text), value);
  assert.equal(printable(text), text);
});

test('a message of several lines cannot pass for a hint', (t) => {
  const error = new TrustError('x.y', 'failed', 'cannot migrate web: refused\nhint: rm -rf /', {
    hint: 'wait',
  });
  assert.equal(
    written(t, process.stderr, () => writeError(error)),
    'error: cannot migrate web: refused\n  hint: rm -rf /\nhint: wait\n',
  );
});

test('a cell with line breaks stays one row, and columns line up', (t) => {
  const text = written(t, process.stdout, () =>
    writeTable(
      ['name', 'reason'],
      [
        ['kvm1', 'gone\nkvm2  fine'],
        ['kvm-three', ''],
      ],
    ),
  );
  assert.equal(text, 'NAME       REASON\nkvm1       gone kvm2  fine\nkvm-three\n');
});
