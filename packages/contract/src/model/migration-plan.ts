import Type, { type Static } from 'typebox';
import { MigrationMode, MigrationOptions } from './migration-options.ts';
import { Finding, PreflightHandshake } from './preflight.ts';
import { Address, InterfaceName, Line, Name, Text, VmName } from './primitives.ts';

const strict = { additionalProperties: false };

/** What was thought of one mode. */
const ModeVerdict = Type.Object(
  {
    mode: MigrationMode,
    feasible: Type.Boolean(),
    /** Why it is or is not, one sentence each. */
    reasons: Type.Array(Text, { maxItems: 32 }),
  },
  strict,
);

/** How a VM would migrate between two hosts, and why so. */
export const MigrationDecision = Type.Object(
  {
    /** Null where it is refused. */
    mode: Type.Union([MigrationMode, Type.Null()]),
    /** `qemu+tls://ADDRESS/system`, `qemu+tcp://...`, or `pinned://HOST`; null where it is refused. */
    uri: Type.Union([Line, Type.Null()]),
    /** Whose agent conducts it. */
    conductor: Type.Union([Type.Literal('source'), Type.Literal('destination'), Type.Null()]),
    /** The order that was asked for, and whose word it is: the request's, or a setting's with its scope. */
    order: Type.Array(MigrationMode, { maxItems: 3 }),
    orderFrom: Line,
    verdicts: Type.Array(ModeVerdict, { maxItems: 3 }),
    warnings: Type.Array(Text, { maxItems: 32 }),
    /** In one sentence. */
    explanation: Text,
    hint: Type.Union([Text, Type.Null()]),
  },
  strict,
);
export type MigrationDecision = Static<typeof MigrationDecision>;

/** What `--plan` answers, and what a migration begins with. */
export const MigrationPlan = Type.Object(
  {
    vm: VmName,
    from: Name,
    to: Name,
    decision: MigrationDecision,
    addresses: Type.Union([
      Type.Object(
        {
          libvirtAddress: Address,
          migrationAddress: Address,
          interface: Type.Union([InterfaceName, Type.Null()]),
        },
        strict,
      ),
      Type.Null(),
    ]),
    options: MigrationOptions,
    findings: Type.Array(Finding, { maxItems: 512 }),
    handshakes: Type.Array(PreflightHandshake, { maxItems: 64 }),
    /** Whether it would go: decided, and nothing found that makes it fail. */
    ready: Type.Boolean(),
  },
  strict,
);
export type MigrationPlan = Static<typeof MigrationPlan>;

/** One pair of the matrix. */
export const MatrixPair = Type.Object(
  {
    from: Name,
    to: Name,
    mode: Type.Union([MigrationMode, Type.Null()]),
    ready: Type.Boolean(),
    /** The decision in one sentence, or the worst finding. */
    detail: Text,
    findings: Type.Array(Finding, { maxItems: 64 }),
  },
  strict,
);
export type MatrixPair = Static<typeof MatrixPair>;

/** Every host of a cluster towards every other. */
export const MigrationMatrix = Type.Object(
  {
    hosts: Type.Array(Name, { maxItems: 1000 }),
    pairs: Type.Array(MatrixPair, { maxItems: 1_000_000 }),
    /** Whether handshakes were made, or all is from what hosts reported. */
    probed: Type.Boolean(),
  },
  strict,
);
export type MigrationMatrix = Static<typeof MigrationMatrix>;
