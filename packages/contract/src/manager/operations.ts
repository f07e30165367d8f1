import type { OperationsById } from '../operation.ts';
import { ALARM_OPERATIONS } from './alarm-operations.ts';
import { AUDIT_OPERATIONS } from './audit-operations.ts';
import { CERTIFICATE_OPERATIONS } from './certificate-operations.ts';
import { CONSOLE_OPERATIONS } from './console-operations.ts';
import { HOST_OPERATIONS } from './host-operations.ts';
import { INTERFACE_OPERATIONS } from './interface-operations.ts';
import { JOB_OPERATIONS } from './job-operations.ts';
import { LIFECYCLE_OPERATIONS } from './lifecycle-operations.ts';
import { MIGRATION_OPERATIONS } from './migration-operations.ts';
import type { ManagerOperation } from './operation-parts.ts';
import { SECRET_OPERATIONS } from './secret-operations.ts';
import { SELF_OPERATIONS } from './self-operations.ts';
import { SETTING_OPERATIONS } from './setting-operations.ts';
import { TOKEN_OPERATIONS } from './token-operations.ts';

const OPERATIONS = [
  ...SELF_OPERATIONS,
  ...HOST_OPERATIONS,
  ...CERTIFICATE_OPERATIONS,
  ...JOB_OPERATIONS,
  ...SETTING_OPERATIONS,
  ...AUDIT_OPERATIONS,
  ...TOKEN_OPERATIONS,
  ...LIFECYCLE_OPERATIONS,
  ...ALARM_OPERATIONS,
  ...SECRET_OPERATIONS,
  ...INTERFACE_OPERATIONS,
  ...CONSOLE_OPERATIONS,
  ...MIGRATION_OPERATIONS,
] as const;

/** Every operation of the manager's API. */
export const MANAGER_OPERATIONS: readonly ManagerOperation[] = OPERATIONS;
/** The same by their ids, as their handlers are typed. */
export type ManagerOperations = OperationsById<typeof OPERATIONS>;
