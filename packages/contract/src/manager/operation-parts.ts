import Type from 'typebox';
import { Line, Name, Uuid } from '../model/primitives.ts';
import type { Operation } from '../operation.ts';

/** Who may call an operation; `public` needs no token. */
type Access = 'administrator' | 'operator' | 'auditor' | 'public';

/** An operation of the manager; each role may do what the roles after it may: administrator, operator, auditor. */
export type ManagerOperation = Operation & { readonly access: Access };

export const strict = { additionalProperties: false };
export const ByName = Type.Object({ name: Name }, strict);
export const ById = Type.Object({ id: Uuid }, strict);
export const Page = Type.Object(
  {
    cursor: Type.Optional(Type.String({ maxLength: 200, pattern: '^[A-Za-z0-9_-]*$' })),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 })),
  },
  strict,
);
export const Scope = Type.Object({ cluster: Type.Optional(Name), host: Type.Optional(Name) }, strict);
export const pageOf = <T extends Type.TSchema>(item: T) =>
  Type.Object({ items: Type.Array(item, { maxItems: 1000 }), next: Type.Union([Line, Type.Null()]) }, strict);
/** `compromised`: the standby key is replaced too. */
export const RollKey = Type.Object({ compromised: Type.Optional(Type.Boolean()) }, strict);
