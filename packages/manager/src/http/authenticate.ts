import { TrustError } from '@virt-trust/base/error.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { Role } from '@virt-trust/contract/model/access.ts';
import type { RefusalLimit } from '../access/refusal-limit.ts';
import { roleSuffices } from '../access/token.ts';
import type { Tokens } from '../access/tokens.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Actor } from './handlers.ts';

export interface AuthenticationParts {
  readonly tokens: Tokens;
  readonly refusals: RefusalLimit;
  readonly audit: AuditLog;
  readonly log: Log;
}

/** What is known of a request before it is let in. */
export interface Credentials {
  readonly authorization: string | undefined;
  readonly address: string;
  /** The operation that is asked for. */
  readonly operation: string;
}

/** Who asks, by bearer token (RFC 6750 §2.1); throws where there is none, it is wrong, or its role does not suffice. */
export async function authenticate(
  parts: AuthenticationParts,
  needed: Role,
  from: Credentials,
): Promise<Actor> {
  const secret = /^bearer +(\S+)$/i.exec(from.authorization ?? '')?.[1];
  const token = secret === undefined ? undefined : await parts.tokens.authenticate(secret);
  if (token === undefined) {
    const reason = secret === undefined ? 'there is no bearer token' : 'the token is not known';
    await refuse(parts, from.address, `address ${from.address}`, from, reason);
    throw new TrustError(
      'access.unauthenticated',
      'unauthenticated',
      `cannot let the request in: ${reason}`,
      {
        hint: 'send `authorization: Bearer vt_...` with a token that `virt-trust token` or the first start showed',
      },
    );
  }
  const actor = { tokenId: token.id, name: token.name, role: token.role, auditName: `token:${token.name}` };
  if (!roleSuffices(token.role, needed)) {
    const reason = `it is for the role ${needed}, token ${token.name} has ${token.role}`;
    await refuse(parts, token.id, actor.auditName, from, reason);
    throw new TrustError('access.role', 'denied', `cannot do ${from.operation}: ${reason}`, {
      hint: `use a token with the role ${needed}`,
    });
  }
  return actor;
}

async function refuse(
  parts: AuthenticationParts,
  source: string,
  actor: string,
  from: Credentials,
  reason: string,
): Promise<void> {
  const verdict = parts.refusals.count(source);
  // SECURITY: whoever asks for ever must not fill the log or the audit log. The answer stays the same and true.
  if (verdict === 'more') return;
  parts.log.warn({ address: from.address, operation: from.operation }, `refused: ${reason}`);
  const detail = `from ${from.address}: ${reason}${verdict === 'last' ? '; more within this minute are not listed' : ''}`;
  await parts.audit.append([
    { actor, action: 'access', subject: from.operation, outcome: 'refused', detail },
  ]);
}
