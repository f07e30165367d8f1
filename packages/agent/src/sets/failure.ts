import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { Failure } from '@virt-trust/contract/model/observed-state.ts';
import { systemRefusal } from '../state/system-error.ts';

/** What of a failed step is reported; text without control characters and bounded. */
export function failureOf(error: unknown, step: string, at: Instant): Failure {
  const known = systemRefusal(error);
  const code = isTrustError(error) ? error.code : (known?.code ?? 'apply.failed');
  const hint = isTrustError(error) && error.hint !== undefined ? error.hint : known?.hint;
  const message = clean(describeError(error));
  return { code: clean(code), message, step, at, ...(hint === undefined ? {} : { hint: clean(hint) }) };
}

/** Text that fits the contract. */
export function clean(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is replaced
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, ' ').slice(0, 4000);
}
