import assert from 'node:assert/strict';
import { test } from 'node:test';
import { virshDomain } from './virsh-domain.ts';

const UUID = '0a8e4a6c-3d5e-4b5b-9c5a-2f4f6a3e0001';

test('A VM is told by its name, quoted where a shell would take it for more.', () => {
  for (const [name, word] of [
    ['web', 'web'],
    ['web 1', "'web 1'"],
    ['7a', '7a'],
    ['7.5', '7.5'],
  ] as const)
    for (const uuid of [UUID, null]) assert.equal(virshDomain({ name, uuid }), word);
});

test('A VM that is named like an ID or a UUID is told by its own UUID, or by where that is.', () => {
  for (const name of ['7', '007', '+7', ' 7', '11111111-2222-3333-4444-555555555555', 'x'.repeat(36)]) {
    assert.equal(virshDomain({ name, uuid: UUID }), UUID);
    assert.match(
      virshDomain({ name, uuid: null }),
      /^UUID \(that of .* in virsh list --all --uuid --name\)$/,
    );
  }
});
