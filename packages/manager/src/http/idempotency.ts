import { sha256Hex } from '@virt-trust/base/digest.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import type { ManagerOperation } from '@virt-trust/contract/manager/operation-parts.ts';
import type { IdempotencyKey } from '../jobs/job.ts';
import type { Actor } from './handlers.ts';

/** What an idempotency key covers. */
export interface CoveredRequest {
  readonly params: unknown;
  readonly query: unknown;
  readonly body: unknown;
}

/** True for operations that make a job: sending one of them again under the same key answers with the same job. */
export function takesIdempotencyKey(operation: ManagerOperation): boolean {
  return operation.status === 202;
}

/** The Idempotency-Key of a request (draft-ietf-httpapi-idempotency-key-header §2), bound to who sent it and to what is asked. */
export function idempotencyKeyOf(
  header: string | readonly string[] | undefined,
  actor: Actor,
  operation: ManagerOperation,
  request: CoveredRequest,
): IdempotencyKey | undefined {
  if (header === undefined) return undefined;
  const key = typeof header === 'string' ? header.replace(/^"(.*)"$/, '$1') : '';
  if (!/^[\x21-\x7e]{1,200}$/.test(key)) {
    throw new TrustError(
      'request.idempotency_key',
      'invalid',
      'cannot read Idempotency-Key: not 1 to 200 visible ASCII characters',
    );
  }
  const digest = sha256Hex(JSON.stringify([operation.id, request.params, request.query, request.body]));
  return { owner: actor.tokenId, key, digest };
}
