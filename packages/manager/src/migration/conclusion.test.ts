import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MIGRATION_MODES } from '@virt-trust/contract/model/migration-options.ts';
import { concluded } from './conclusion.ts';

test('of a VM that was off it says which way its definition went, and nothing of QEMU', () => {
  const order = { vm: 'web', from: 'kvm1', to: 'kvm2' };
  for (const mode of MIGRATION_MODES) {
    const said = concluded(order, {
      id: '9311143d-3d2f-4fb0-9207-575cc0c53aea',
      vm: 'web',
      mode,
      phase: 'done',
      step: null,
      runsOn: 'neither',
      progress: null,
      proof: { tlsCreds: '', tlsHostname: '' },
      error: null,
    });
    assert.match(said, /^web is defined on kvm2; its definition went /);
    assert.doesNotMatch(said, /QEMU|stream|over before/);
  }
});
