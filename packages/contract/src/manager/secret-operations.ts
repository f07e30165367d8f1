import { Job } from '../model/job.ts';
import type { ManagerOperation } from './operation-parts.ts';

export const rotateSecrets = {
  id: 'rotateSecrets',
  summary: 'Seals every secret of the store under a new key, while the manager serves.',
  method: 'POST',
  path: '/api/v1/manager/seal-key',
  result: Job,
  status: 202,
  access: 'administrator',
} as const satisfies ManagerOperation;

export const SECRET_OPERATIONS = [rotateSecrets] as const satisfies readonly ManagerOperation[];
