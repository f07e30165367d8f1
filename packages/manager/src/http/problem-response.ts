import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { type Problem, problemOf } from '@virt-trust/contract/problem.ts';

/** The code and the way out for what the HTTP server itself refuses (Fastify's and Node's own codes). */
const REFUSALS: Readonly<Record<string, readonly [code: string, hint: string]>> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: ['request.media_type', 'send content-type: application/json'],
  FST_ERR_CTP_EMPTY_JSON_BODY: ['request.not_json', 'send a JSON body, or no content-type'],
  FST_ERR_CTP_INVALID_JSON_BODY: ['request.not_json', 'send a JSON body'],
  FST_ERR_CTP_BODY_TOO_LARGE: ['request.too_large', 'send a smaller body'],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: ['request.content_length', 'send as many bytes as content-length says'],
};

/** The problem document of whatever was thrown (RFC 9457); what is no error of ours or the client's says nothing of its cause. */
export function problemOfThrown(thrown: unknown): Problem {
  if (isTrustError(thrown)) return problemOf(thrown);
  const {
    statusCode,
    code = '',
    message = '',
  } = thrown as { statusCode?: number; code?: string; message?: string };
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    const [name, hint] = REFUSALS[code] ?? ['request.refused', undefined];
    const details = hint === undefined ? {} : { hint };
    return {
      ...problemOf(new TrustError(name, 'invalid', `cannot accept the request: ${message}`, details)),
      status: statusCode,
    };
  }
  return problemOf(
    new TrustError('internal.unexpected', 'internal', 'cannot answer the request: an unexpected fault', {
      hint: "look for the answer's x-request-id in the manager's log",
    }),
  );
}
