import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inTurnAtVnc } from './vnc-turns.ts';

test('visits of one VNC server come one after the other, of several at once, whatever becomes of them', async () => {
  const [first, second] = [Promise.withResolvers<string>(), Promise.withResolvers<string>()];
  const begun: string[] = [];
  const visit = (port: number, name: string, work: Promise<string>) =>
    inTurnAtVnc(port, () => {
      begun.push(name);
      return work;
    });
  const one = visit(5900, 'one', first.promise);
  const two = visit(5900, 'two', Promise.resolve('2'));
  const other = visit(5901, 'other', second.promise);
  second.resolve('o');
  assert.equal(await other, 'o');
  assert.deepEqual(begun, ['one', 'other']);
  first.reject(new Error('no answer'));
  await assert.rejects(one, /no answer/);
  assert.equal(await two, '2');
  assert.deepEqual(begun, ['one', 'other', 'two']);
});
