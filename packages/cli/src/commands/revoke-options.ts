import { RevocationReason } from '@virt-trust/contract/model/certificate.ts';
import { Option } from 'commander';
import { given } from '../given.ts';

export interface RevokeOptions {
  readonly reason: RevocationReason;
  readonly comment?: string;
  readonly yes?: boolean;
  readonly json?: boolean;
}

const REASONS = RevocationReason.anyOf.map((one) => one.const);

/** Why something is revoked, in RFC 5280's words (§5.3.1). */
export function reasonOption(): Option {
  return new Option('--reason <reason>', 'why').choices(REASONS).makeOptionMandatory();
}

/** What the manager is asked for. */
export function revokeOrderOf({ reason, comment }: RevokeOptions): {
  reason: RevocationReason;
  comment?: string;
} {
  return { reason, ...given({ comment }) };
}
