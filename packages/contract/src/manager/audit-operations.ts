import Type from 'typebox';
import { AuditEntry } from '../model/audit-entry.ts';
import { Count, Line, Text } from '../model/primitives.ts';
import { type ManagerOperation, Page, pageOf, strict } from './operation-parts.ts';

export const listAudit = {
  id: 'listAudit',
  summary: 'The audit log, oldest first.',
  method: 'GET',
  path: '/api/v1/audit',
  query: Page,
  result: pageOf(AuditEntry),
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;

export const verifyAudit = {
  id: 'verifyAudit',
  summary: 'Recomputes the hash chain of the audit log.',
  method: 'GET',
  path: '/api/v1/audit/verification',
  result: Type.Object(
    { entries: Count, head: Line, intact: Type.Boolean(), problem: Type.Union([Text, Type.Null()]) },
    strict,
  ),
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;

export const AUDIT_OPERATIONS = [listAudit, verifyAudit] as const satisfies readonly ManagerOperation[];
