import { TrustError } from '@virt-trust/base/error.ts';
import type { Static, TSchema } from 'typebox';
import { Compile } from 'typebox/compile';

/** Checks a value and returns it typed, or throws `contract.invalid` naming the place and what was expected. */
export type Validator<S extends TSchema> = (value: unknown, what: string) => Static<S>;

const compiled = new WeakMap<TSchema, Validator<TSchema>>();

/** The validator of a schema, compiled once. */
export function validatorOf<S extends TSchema>(schema: S): Validator<S> {
  const known = compiled.get(schema);
  if (known !== undefined) return known as Validator<S>;
  const check = Compile(schema);
  const validator = (value: unknown, what: string): unknown => {
    if (check.Check(value)) return value;
    const errors = check.Errors(value);
    // What a union says last, that nothing of it fits, says less than what was wrong with a text.
    const first = errors.find(({ keyword }) => keyword === 'pattern') ?? errors.at(-1);
    const path = first?.instancePath ?? '';
    const form = first && (describedAt(schema, first.schemaPath) ?? oneOf(schema, first));
    const reason =
      form === undefined
        ? (unknownProperties(first) ?? first?.message ?? 'wrong form')
        : `${shown(value, path)} is not ${form}`;
    throw new TrustError(
      'contract.invalid',
      'invalid',
      `cannot accept ${what}${path === '' ? '' : ` at ${path}`}: ${reason}`,
      { context: { what, path, keyword: first?.keyword ?? '' } },
    );
  };
  compiled.set(schema, validator as Validator<TSchema>);
  return validator as Validator<S>;
}

interface Failure {
  readonly keyword: string;
  readonly schemaPath: string;
  readonly instancePath: string;
  readonly params: object;
}

/** What a union of fixed words would take; undefined where it takes anything else. */
function oneOf(schema: TSchema, { keyword, schemaPath }: Failure): string | undefined {
  if (keyword !== 'anyOf') return undefined;
  const { anyOf = [] } = (schemaAt(schema, schemaPath) ?? {}) as {
    readonly anyOf?: readonly { readonly const?: unknown }[];
  };
  const words = anyOf.map((one) => one.const);
  const all = words.length > 0 && words.every((word) => typeof word === 'string');
  return all ? `one of ${words.join(', ')}` : undefined;
}

/** Which properties are too many. */
function unknownProperties(failure: Failure | undefined): string | undefined {
  if (failure?.keyword !== 'additionalProperties') return undefined;
  const names = (failure.params as { additionalProperties?: readonly string[] }).additionalProperties ?? [];
  const text = names.map((name) => JSON.stringify(name)).join(', ');
  return `there is no property ${text.length <= 200 ? text : `${text.slice(0, 197)}...`}`;
}

/** The description of the schema that a schema path leads to. */
function describedAt(schema: TSchema, schemaPath: string): string | undefined {
  const { description } = (schemaAt(schema, schemaPath) ?? {}) as { readonly description?: unknown };
  return typeof description === 'string' ? description : undefined;
}

function schemaAt(schema: TSchema, schemaPath: string): unknown {
  return at(schema, schemaPath.replace(/^#/, '').split('/').slice(1));
}

/** A value by a path within what was checked, as JSON and cut short. */
function shown(value: unknown, path: string): string {
  const text = JSON.stringify(at(value, path.split('/').slice(1))) ?? 'nothing';
  return text.length <= 80 ? text : `${text.slice(0, 77)}...`;
}

// RFC 6901 §4.
function at(value: unknown, path: readonly string[]): unknown {
  let current = value;
  for (const part of path)
    current = (current as Record<string, unknown> | null | undefined)?.[
      part.replaceAll('~1', '/').replaceAll('~0', '~')
    ];
  return current;
}
