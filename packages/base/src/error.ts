/** What kind of thing went wrong; each edge (HTTP, exit code) maps the category and nothing else. */
export type ErrorCategory =
  /** The request or file itself is wrong. */
  | 'invalid'
  /** The named thing does not exist. */
  | 'not-found'
  /** It clashes with what is there. */
  | 'conflict'
  /** The peer or person is known and may not do this. */
  | 'denied'
  /** The peer or person could not be authenticated. */
  | 'unauthenticated'
  /** Somebody else is away or not ready; trying again may help. */
  | 'unavailable'
  /** It was tried and did not work. */
  | 'failed'
  /** A fault of virt-trust's own. */
  | 'internal';

export interface ErrorDetails<Context extends object> {
  /** Facts for machines and logs; never a secret. */
  readonly context?: Context;
  /** What the operator can do about it, in one sentence. */
  readonly hint?: string;
  readonly cause?: unknown;
}

/**
 * The one error class of the project: a stable code `area.condition`, a category, typed context and a hint.
 * Messages read "cannot X: reason" and name the thing.
 */
export class TrustError<Context extends object = Record<string, unknown>> extends Error {
  override readonly name = 'TrustError';
  readonly code: string;
  readonly category: ErrorCategory;
  readonly context: Context;
  readonly hint: string | undefined;

  constructor(code: string, category: ErrorCategory, message: string, details: ErrorDetails<Context> = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.category = category;
    this.context = details.context ?? ({} as Context);
    this.hint = details.hint;
  }
}

/** True for a TrustError, with the given code where one is given. */
export function isTrustError(value: unknown, code?: string): value is TrustError {
  return value instanceof TrustError && (code === undefined || value.code === code);
}

/** The message of whatever was thrown, with the messages of its causes, on one line. */
export function describeError(value: unknown): string {
  const parts: string[] = [];
  let current: unknown = value;
  for (let depth = 0; depth < 8 && current !== undefined && current !== null; depth++) {
    const message = current instanceof Error ? current.message : String(current);
    if (message !== '' && !parts.some((part) => part.includes(message))) parts.push(message);
    current = current instanceof Error ? current.cause : undefined;
  }
  return parts.join(': ');
}
