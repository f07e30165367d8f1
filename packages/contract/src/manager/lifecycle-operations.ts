import Type from 'typebox';
import { RenewalPlan, RevocationReason } from '../model/certificate.ts';
import { CrlNumber, CrlPem } from '../model/crl.ts';
import { Job } from '../model/job.ts';
import { Count, Line, Name, SerialHex, Time } from '../model/primitives.ts';
import { Purpose, Service } from '../model/service.ts';
import { ByName, type ManagerOperation, strict } from './operation-parts.ts';

const BySerial = Type.Object({ serial: SerialHex }, strict);
const RevokeOrder = Type.Object({ reason: RevocationReason, comment: Type.Optional(Line) }, strict);

export const renewCertificate = {
  id: 'renewCertificate',
  summary: 'Renews a certificate that is served, now: a new key on the host, switched and proven.',
  method: 'POST',
  path: '/api/v1/certificates/{serial}/renewal',
  params: BySerial,
  result: Job,
  status: 202,
  access: 'operator',
} as const satisfies ManagerOperation;
export const revokeCertificate = {
  id: 'revokeCertificate',
  summary: 'Revokes a certificate: signs a new CRL, brings it to every host and proves it there.',
  method: 'POST',
  path: '/api/v1/certificates/{serial}/revocation',
  params: BySerial,
  body: RevokeOrder,
  result: Job,
  status: 202,
  access: 'administrator',
} as const satisfies ManagerOperation;
export const releaseCertificate = {
  id: 'releaseCertificate',
  summary:
    'Takes a certificate off hold (RFC 5280 §5.3.1, certificateHold); any other revocation is for ever.',
  method: 'DELETE',
  path: '/api/v1/certificates/{serial}/revocation',
  params: BySerial,
  result: Job,
  status: 202,
  access: 'administrator',
} as const satisfies ManagerOperation;
export const revokeHost = {
  id: 'revokeHost',
  summary: 'Revokes every certificate of a host; it gets none until it is provisioned again.',
  method: 'POST',
  path: '/api/v1/hosts/{name}/revocation',
  params: ByName,
  body: RevokeOrder,
  result: Job,
  status: 202,
  access: 'administrator',
} as const satisfies ManagerOperation;

const Crl = Type.Object(
  {
    authority: Name,
    purpose: Purpose,
    number: CrlNumber,
    thisUpdate: Time,
    nextUpdate: Time,
    /** When it will be signed anew although nothing was revoked. */
    refreshAt: Time,
    /** As published. */
    entries: Count,
    /** As brought to hosts. */
    hostEntries: Count,
    hosts: Type.Object({ current: Count, behind: Type.Array(Name, { maxItems: 10_000 }) }, strict),
    pem: Type.Union([CrlPem, Type.Null()]),
  },
  strict,
);
export const listCrls = {
  id: 'listCrls',
  summary: 'The CRL of each authority, and which hosts have it.',
  method: 'GET',
  path: '/api/v1/crls',
  result: Type.Object(
    {
      items: Type.Array(Crl, { maxItems: 64 }),
      /** After a restore, as long as not enough hosts were asked: no CRL is signed, and none is published. */
      held: Type.Union([Type.Object({ heard: Count, hosts: Count }, strict), Type.Null()]),
    },
    strict,
  ),
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;
export const refreshCrls = {
  id: 'refreshCrls',
  summary: 'Signs the CRLs anew and brings them to every host.',
  method: 'POST',
  path: '/api/v1/crls',
  result: Job,
  status: 202,
  access: 'operator',
} as const satisfies ManagerOperation;

const Freeze = Type.Object(
  {
    frozen: Type.Boolean(),
    /** What stopped it: a person, or a wave with too many failures. */
    by: Type.Union([Line, Type.Null()]),
    reason: Line,
    since: Type.Union([Time, Type.Null()]),
  },
  strict,
);
export const getFreeze = {
  id: 'getFreeze',
  summary: 'Whether changes to the fleet that nobody asked for by name are stopped.',
  method: 'GET',
  path: '/api/v1/freeze',
  result: Freeze,
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;
export const putFreeze = {
  id: 'putFreeze',
  summary: 'Stops the waves of renewals and repairs at once, or lets them go on.',
  method: 'PUT',
  path: '/api/v1/freeze',
  body: Type.Object({ frozen: Type.Boolean(), reason: Type.Optional(Line) }, strict),
  result: Freeze,
  status: 200,
  access: 'operator',
} as const satisfies ManagerOperation;

const Renewal = Type.Object(
  {
    host: Name,
    service: Service,
    serialNumber: SerialHex,
    notAfter: Time,
    state: Type.Union([
      Type.Literal('planned'),
      Type.Literal('due'),
      Type.Literal('running'),
      Type.Literal('held'),
    ]),
    plan: RenewalPlan,
  },
  strict,
);
export const listRenewals = {
  id: 'listRenewals',
  summary: 'The renewals to come, soonest first.',
  method: 'GET',
  path: '/api/v1/renewals',
  query: Type.Object(
    { host: Type.Optional(Name), limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 })) },
    strict,
  ),
  result: Type.Object({ items: Type.Array(Renewal, { maxItems: 1000 }) }, strict),
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;

export const LIFECYCLE_OPERATIONS = [
  renewCertificate,
  revokeCertificate,
  releaseCertificate,
  revokeHost,
  listCrls,
  refreshCrls,
  getFreeze,
  putFreeze,
  listRenewals,
] as const satisfies readonly ManagerOperation[];
