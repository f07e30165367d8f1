import { formatInstant, type Instant } from '@virt-trust/base/instant.ts';
import type { RevocationReason } from '@virt-trust/contract/model/certificate.ts';
import type { Database } from './database.ts';

/** Within a transaction: a revoked host gets no certificate until somebody provisions it by name. */
export function barHost(
  database: Database,
  host: string,
  why: { readonly at: Instant; readonly reason: RevocationReason; readonly comment: string },
): void {
  database.run(
    'insert into revoked_hosts (host, at) select name, ? from hosts where name = ? on conflict do nothing',
    why.at,
    host,
  );
  database.run(
    `update hosts set state = 'failed', document = json_set(document, '$.revoked', json(?), '$.state', 'failed',
      '$.reason', ?) where name = ?`,
    JSON.stringify(why),
    `revoked for ${why.reason} at ${formatInstant(why.at)}; once it is trustworthy again: virt-trust host provision ${host}`,
    host,
  );
}
