/** Text of the host as it fits one line of the contract: no control characters, bounded. */
export function lineOf(text: string, length = 1024): string {
  return text
    .slice(0, length)
    .replace(/\p{Cc}/gu, ' ')
    .trim();
}

/** A property of whatever JSON held, undefined where it is not there. */
export function property(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined;
  return (value as Record<string, unknown>)[name];
}
