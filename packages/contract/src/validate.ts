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
    const first = check.Errors(value).at(-1);
    const place = first?.instancePath === '' || first === undefined ? '' : ` at ${first.instancePath}`;
    throw new TrustError(
      'contract.invalid',
      'invalid',
      `cannot accept ${what}${place}: ${first?.message ?? 'wrong form'}`,
      {
        context: { what, path: first?.instancePath ?? '', keyword: first?.keyword ?? '' },
      },
    );
  };
  compiled.set(schema, validator as Validator<TSchema>);
  return validator as Validator<S>;
}
