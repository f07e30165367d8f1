import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import Type from 'typebox';
import { validatorOf } from './validate.ts';

const Thing = Type.Object(
  {
    mode: Type.Optional(Type.Array(Type.Union([Type.Literal('tls'), Type.Literal('plain')]))),
    size: Type.Optional(Type.Union([Type.Integer(), Type.Null()])),
    name: Type.Optional(Type.String({ description: 'a name', pattern: '^[a-z]+$' })),
  },
  { additionalProperties: false },
);

function refusal(value: unknown): string {
  try {
    validatorOf(Thing)(value, 'the body');
  } catch (error) {
    assert.ok(isTrustError(error, 'contract.invalid'));
    return error.message;
  }
  return assert.fail('it was taken');
}

test('what a value is refused for names the place and what would be taken', () => {
  assert.equal(refusal({ naem: 'x' }), 'cannot accept the body: there is no property "naem"');
  assert.equal(refusal({ a: 1, b: 2 }), 'cannot accept the body: there is no property "a", "b"');
  assert.equal(refusal({ mode: ['x'] }), 'cannot accept the body at /mode/0: "x" is not one of tls, plain');
  assert.equal(refusal({ mode: [null] }), 'cannot accept the body at /mode/0: null is not one of tls, plain');
  assert.equal(refusal({ name: 'A' }), 'cannot accept the body at /name: "A" is not a name');
  assert.equal(refusal({ size: 'x' }), 'cannot accept the body at /size: must match a schema in anyOf');
  assert.equal(refusal(null), 'cannot accept the body: must be object');
});

test('a value with a great many unknown properties is refused in few words', () => {
  const many = Object.fromEntries(Array.from({ length: 1000 }, (_, n) => [`p${n}`, n]));
  assert.ok(refusal(many).length < 300);
});
