import { join } from 'node:path';
import { ServedEndpoint } from '@virt-trust/contract/model/observed-state.ts';
import { Count, Time } from '@virt-trust/contract/model/primitives.ts';
import Type, { type Static } from 'typebox';
import { Document } from '../state/document.ts';
import type { AgentPaths } from '../state/paths.ts';

/** What the last look came to at one place, and how often that place was repaired. */
export const ServedRecord = Type.Object(
  {
    ...ServedEndpoint.properties,
    repairs: Count,
    repairedAt: Type.Union([Time, Type.Null()]),
  },
  { additionalProperties: false },
);
export type ServedRecord = Static<typeof ServedRecord>;

const ServedRecords = Type.Object(
  { endpoints: Type.Array(ServedRecord, { maxItems: 4096 }) },
  { additionalProperties: false },
);

/** The file that keeps states and counts over restarts of the agent. */
export function servedDocument(paths: AgentPaths): Document<typeof ServedRecords> {
  return new Document(
    join(paths.agent, 'served.json'),
    ServedRecords,
    'Remove it; the agent looks at every endpoint anew.',
  );
}
