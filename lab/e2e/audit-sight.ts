import { listAudit } from '@virt-trust/contract/manager/audit-operations.ts';
import type { AuditEntry } from '@virt-trust/contract/model/audit-entry.ts';
import type { Fleet } from './fleet.ts';

/** Every entry of an action in the manager's audit, oldest first, however long it has become. */
export async function auditOf({ client }: Fleet, action: string): Promise<AuditEntry[]> {
  const found: AuditEntry[] = [];
  for (let cursor: string | undefined; ; ) {
    const query = { limit: 1000, ...(cursor === undefined ? {} : { cursor }) };
    const { items, next } = await client.call(listAudit, { query });
    found.push(...items.filter((entry) => entry.action === action));
    if (next === null) return found;
    cursor = next;
  }
}
