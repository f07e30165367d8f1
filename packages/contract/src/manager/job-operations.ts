import Type from 'typebox';
import { Job } from '../model/job.ts';
import { Count } from '../model/primitives.ts';
import { ById, type ManagerOperation, Page, pageOf, strict } from './operation-parts.ts';

export const listJobs = {
  id: 'listJobs',
  summary: 'The jobs, newest first.',
  method: 'GET',
  path: '/api/v1/jobs',
  query: Page,
  result: pageOf(Job),
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;

export const getJob = {
  id: 'getJob',
  summary: 'A job.',
  method: 'GET',
  path: '/api/v1/jobs/{id}',
  params: ById,
  result: Job,
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;

export const cancelJob = {
  id: 'cancelJob',
  summary: 'Cancels a job where that leaves nothing half done.',
  method: 'DELETE',
  path: '/api/v1/jobs/{id}',
  params: ById,
  result: Job,
  status: 202,
  access: 'operator',
} as const satisfies ManagerOperation;

export const watchJob = {
  id: 'watchJob',
  summary: 'A job as server-sent events `job`, until it is over.',
  method: 'GET',
  path: '/api/v1/jobs/{id}/events',
  params: ById,
  result: Type.Unknown(),
  status: 200,
  produces: 'text/event-stream',
  access: 'auditor',
} as const satisfies ManagerOperation;

const watchEvents = {
  id: 'watchEvents',
  summary: 'What happens in the fleet as server-sent events; `Last-Event-ID` resumes.',
  method: 'GET',
  path: '/api/v1/events',
  query: Type.Object({ after: Type.Optional(Count) }, strict),
  result: Type.Unknown(),
  status: 200,
  produces: 'text/event-stream',
  access: 'auditor',
} as const satisfies ManagerOperation;

export const JOB_OPERATIONS = [
  listJobs,
  getJob,
  cancelJob,
  watchJob,
  watchEvents,
] as const satisfies readonly ManagerOperation[];
