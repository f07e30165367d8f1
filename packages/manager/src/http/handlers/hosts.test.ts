import assert from 'node:assert/strict';
import { test } from 'node:test';
import { instant } from '@virt-trust/base/instant.ts';
import type { Role } from '@virt-trust/contract/model/access.ts';
import type { AuditDraft } from '../../audit/audit-entry.ts';
import { testHost } from '../../hosts/fixtures.ts';
import type { Actor } from '../handlers.ts';
import { type HostHandlersParts, hostHandlers } from './hosts.ts';

function provisioningOf(revoked: boolean) {
  const host = testHost('kvm1', {
    ...(revoked && { revoked: { at: instant(7), reason: 'keyCompromise', comment: '' } }),
  });
  const audited: AuditDraft[] = [];
  const payloads: unknown[] = [];
  const parts = {
    context: {
      repository: { find: async () => host },
      audit: { append: async (entry: AuditDraft) => void audited.push(entry) },
    },
    jobs: { enqueue: async (_: unknown, { payload }: { payload: unknown }) => void payloads.push(payload) },
    definitions: {},
  } as unknown as HostHandlersParts;
  const { provisionHost } = hostHandlers(parts);
  const as = (role: Role) => {
    const actor: Actor = { tokenId: '1', name: role, role, auditName: `token:${role}` };
    const { signal } = new AbortController();
    const none = { query: undefined, idempotencyKey: undefined, lastEventId: undefined };
    return provisionHost({ ...none, params: { name: 'kvm1' }, body: {}, actor, signal });
  };
  return { as, audited, payloads };
}

test('SECURITY: a host that was revoked is taken back by administrators alone, and who else tries is noted', async () => {
  const { as, audited, payloads } = provisioningOf(true);
  await assert.rejects(as('operator'), { code: 'access.role', message: /only an administrator/ });
  assert.deepEqual(payloads, []);
  assert.deepEqual(
    audited.map(({ actor, action, outcome }) => [actor, action, outcome]),
    [['token:operator', 'host.lift', 'refused']],
  );
  await as('administrator');
  assert.deepEqual(payloads, [{ host: 'kvm1', renew: false, lifts: 7 }]);
});

test('any other host is provisioned by operators too', async () => {
  const { as, payloads } = provisioningOf(false);
  await as('operator');
  assert.deepEqual(payloads, [{ host: 'kvm1', renew: false }]);
});
