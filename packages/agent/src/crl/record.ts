import { join } from 'node:path';
import { CrlPem, InstalledCrl } from '@virt-trust/contract/model/crl.ts';
import { Line, Pin } from '@virt-trust/contract/model/primitives.ts';
import { Service } from '@virt-trust/contract/model/service.ts';
import Type, { type Static } from 'typebox';
import { Document } from '../state/document.ts';
import type { AgentPaths } from '../state/paths.ts';

const strict = { additionalProperties: false };

/** A CRL that was verified, kept so that what a crash cut off is finished, and for services that come later. */
export const CrlRecord = Type.Object(
  {
    /** Its `failure` says why a service is pending. */
    installed: InstalledCrl,
    /** Of the authority's key: numbers count for one key. */
    issuerPin: Pin,
    pem: CrlPem,
    /** Services whose file was not written, or whose daemons have not loaded it. */
    pending: Type.Array(Type.Object({ service: Service, reason: Line }, strict), { maxItems: 8 }),
    /** What was said of its age. */
    said: Type.Union([Type.Literal('nothing'), Type.Literal('due'), Type.Literal('stale')]),
  },
  strict,
);
export type CrlRecord = Static<typeof CrlRecord>;

const CrlRecords = Type.Object({ crls: Type.Array(CrlRecord, { maxItems: 8 }) }, strict);

/** The CRLs of this host, one for each purpose. */
export function crlDocument(paths: AgentPaths): Document<typeof CrlRecords> {
  return new Document(
    join(paths.agent, 'crls.json'),
    CrlRecords,
    'Remove it; the manager sends its CRLs again, and what daemons have loaded holds meanwhile.',
  );
}
