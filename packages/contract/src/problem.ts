import { type ErrorCategory, TrustError } from '@virt-trust/base/error.ts';
import Type, { type Static } from 'typebox';

/** RFC 9457 problem details, with the project's code, hint and context. */
export const Problem = Type.Object({
  type: Type.String({ maxLength: 200 }),
  title: Type.String({ maxLength: 200 }),
  status: Type.Integer({ minimum: 400, maximum: 599 }),
  detail: Type.String({ maxLength: 8000 }),
  code: Type.String({ maxLength: 100 }),
  hint: Type.Optional(Type.String({ maxLength: 4000 })),
  context: Type.Optional(Type.Unknown()),
});
export type Problem = Static<typeof Problem>;

const STATUS: Readonly<Record<ErrorCategory, number>> = {
  invalid: 400,
  unauthenticated: 401,
  denied: 403,
  'not-found': 404,
  conflict: 409,
  unavailable: 503,
  failed: 502,
  internal: 500,
};

/** The one mapping from error category to HTTP status and problem document. */
export function problemOf(error: TrustError): Problem {
  return {
    type: `urn:virt-trust:error:${error.code}`,
    title: error.code,
    status: STATUS[error.category],
    detail: error.message.slice(0, 8000),
    code: error.code,
    ...(error.hint === undefined ? {} : { hint: error.hint.slice(0, 4000) }),
    ...(Object.keys(error.context).length === 0 ? {} : { context: error.context }),
  };
}

/** The error that a problem document stands for, on the client's side. */
export function errorOfProblem(problem: Problem): TrustError {
  const known = (Object.entries(STATUS) as [ErrorCategory, number][]).find(
    ([, status]) => status === problem.status,
  );
  const category = known?.[0] ?? (problem.status < 500 ? 'invalid' : 'internal');
  const context =
    typeof problem.context === 'object' && problem.context !== null ? { ...problem.context } : {};
  return new TrustError(problem.code, category, problem.detail, {
    context,
    ...(problem.hint === undefined ? {} : { hint: problem.hint }),
  });
}
