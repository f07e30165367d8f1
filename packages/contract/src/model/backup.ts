import Type, { type Static } from 'typebox';
import { Count, Line, Sha256Hex, Time } from './primitives.ts';

const strict = { additionalProperties: false };
const KeyId = Type.String({ pattern: '^[0-9a-f]{8}$' });

/** What a backup says of itself, before the database. */
export const BackupHeader = Type.Object(
  {
    version: Line,
    madeAt: Time,
    /** The last step of the schema. */
    schema: Type.Object({ number: Count, name: Line }, strict),
    /** Under which its secrets are sealed. */
    sealKeys: Type.Array(KeyId, { minItems: 1, maxItems: 16 }),
    /** Which of them authenticates the backup. */
    authenticatedBy: KeyId,
    bytes: Count,
    sha256: Sha256Hex,
    audit: Type.Object({ entries: Count, head: Sha256Hex }, strict),
  },
  strict,
);
export type BackupHeader = Static<typeof BackupHeader>;
