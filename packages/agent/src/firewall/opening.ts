import { Address, Port } from '@virt-trust/contract/model/primitives.ts';
import Type, { type Static } from 'typebox';

const strict = { additionalProperties: false };

/** What an opening is for; stands in the rules' comment as `virt-trust:WHAT`. */
const What = Type.String({ pattern: '^[a-z][a-z0-9-]{0,60}$' });

export const PortRange = Type.Object({ from: Port, to: Port }, strict);
export type PortRange = Static<typeof PortRange>;

/** TCP ports that shall be reachable, from anywhere or from some addresses only. */
export const Opening = Type.Object(
  {
    what: What,
    ports: Type.Array(PortRange, { minItems: 1, maxItems: 16 }),
    /** Null: from anywhere. */
    from: Type.Union([Type.Array(Address, { minItems: 1, maxItems: 64 }), Type.Null()]),
  },
  strict,
);
export type Opening = Static<typeof Opening>;

/** A rule that was not there before and that virt-trust added to firewalld. */
export const FirewalldRule = Type.Object(
  {
    what: What,
    zone: Type.String({ pattern: '^[A-Za-z0-9_/-]{1,64}$' }),
    /** What follows `--add-`, `--remove-` and `--query-`. */
    kind: Type.Union([Type.Literal('port'), Type.Literal('rich-rule')]),
    value: Type.String({ maxLength: 512 }),
    permanent: Type.Boolean(),
  },
  strict,
);
export type FirewalldRule = Static<typeof FirewalldRule>;

/** What the agent keeps about the firewall. */
export const FirewallRecord = Type.Object(
  {
    openings: Type.Array(Opening, { maxItems: 1024 }),
    firewalld: Type.Array(FirewalldRule, { maxItems: 4096 }),
  },
  strict,
);
export type FirewallRecord = Static<typeof FirewallRecord>;
