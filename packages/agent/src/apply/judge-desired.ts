import { TrustError } from '@virt-trust/base/error.ts';
import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';

/**
 * Whether a desired state is newer than the one that the host has, or that one again. Throws `desired_state.stale`,
 * `desired_state.number_reused`, and `desired_state.invalid` for one that no host can be brought to.
 */
export function judgeDesired(has: DesiredState | undefined, desired: DesiredState): 'newer' | 'known' {
  const order = has === undefined ? 1 : desired.epoch - has.epoch || desired.number - has.number;
  if (order < 0 && has !== undefined) {
    throw new TrustError(
      'desired_state.stale',
      'conflict',
      `cannot take desired state ${desired.epoch}.${desired.number}: the host has ${has.epoch}.${has.number}`,
      { context: { epoch: has.epoch, number: has.number } },
    );
  }
  if (order === 0) {
    if (JSON.stringify(has) === JSON.stringify(desired)) return 'known';
    throw new TrustError(
      'desired_state.number_reused',
      'conflict',
      `cannot take desired state ${desired.epoch}.${desired.number}: the host has another of this number`,
    );
  }
  requirePossible(desired);
  return 'newer';
}

function requirePossible({ credentials, settings }: DesiredState): void {
  if (settings.tls === 'off' && credentials.length > 0)
    throw new TrustError(
      'desired_state.invalid',
      'invalid',
      'cannot take the desired state: it names services while TLS is off',
    );
  if (new Set(credentials.map(({ service }) => service)).size === credentials.length) return;
  throw new TrustError(
    'desired_state.invalid',
    'invalid',
    'cannot take the desired state: it names a service more than once',
  );
}
