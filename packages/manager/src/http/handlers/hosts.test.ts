import assert from 'node:assert/strict';
import { test } from 'node:test';
import { instant } from '@virt-trust/base/instant.ts';
import type { Role } from '@virt-trust/contract/model/access.ts';
import type { ProvisionHost } from '@virt-trust/contract/model/host.ts';
import type { AuditDraft } from '../../audit/audit-entry.ts';
import { testHost } from '../../hosts/fixtures.ts';
import type { Actor } from '../handlers.ts';
import { type HostHandlersParts, hostHandlers } from './hosts.ts';

const DEFAULTS = { provider: 'internal', reconnect: false };

function provisioningOf(revoked: boolean, defaults = DEFAULTS) {
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
    provisionDefaults: async () => defaults,
  } as unknown as HostHandlersParts;
  const { provisionHost } = hostHandlers(parts);
  const as = (role: Role, body: ProvisionHost = {}) => {
    const actor: Actor = { tokenId: '1', name: role, role, auditName: `token:${role}` };
    const { signal } = new AbortController();
    const none = { query: undefined, idempotencyKey: undefined, lastEventId: undefined };
    return provisionHost({ ...none, params: { name: 'kvm1' }, body, actor, signal });
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
  assert.deepEqual(payloads, [{ host: 'kvm1', renew: false, ...DEFAULTS, lifts: 7 }]);
});

test('any other host is provisioned by operators too', async () => {
  const { as, payloads } = provisioningOf(false);
  await as('operator');
  assert.deepEqual(payloads, [{ host: 'kvm1', renew: false, ...DEFAULTS }]);
});

test('without an option the settings hold; what is said wins over them', async () => {
  const { as, payloads } = provisioningOf(false, { ...DEFAULTS, reconnect: true });
  await as('operator');
  await as('operator', { reconnect: false, provider: 'internal', renew: true });
  assert.deepEqual(payloads, [
    { host: 'kvm1', renew: false, provider: 'internal', reconnect: true },
    { host: 'kvm1', renew: true, provider: 'internal', reconnect: false },
  ]);
});

test('a kind of CA that there is not is refused before a job is made, with what there is', async () => {
  const { as, payloads } = provisioningOf(false);
  await assert.rejects(as('operator', { provider: 'acme' }), {
    code: 'provider.unknown',
    message: /no kind of CA "acme"/,
    hint: 'there is: internal',
  });
  assert.deepEqual(payloads, []);
});
