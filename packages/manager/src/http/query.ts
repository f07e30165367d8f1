import type { Operation } from '@virt-trust/contract/operation.ts';

/** A query string as its schema's types: what is no number or boolean stays text, which the validator then refuses. */
export function readQuery(schema: Operation['query'], query: unknown): unknown {
  const properties =
    (schema as { properties?: Record<string, { type?: string }> } | undefined)?.properties ?? {};
  return Object.fromEntries(
    Object.entries((query ?? {}) as Record<string, unknown>).map(([name, value]) => [
      name,
      readValue(Object.hasOwn(properties, name) ? properties[name]?.type : undefined, value),
    ]),
  );
}

function readValue(type: string | undefined, value: unknown): unknown {
  if (typeof value !== 'string') return value;
  if (type === 'integer' && /^-?\d{1,16}$/.test(value)) return Number(value);
  if (type === 'boolean' && (value === 'true' || value === 'false')) return value === 'true';
  return value;
}
