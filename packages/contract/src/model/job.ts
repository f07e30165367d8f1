import Type, { type Static } from 'typebox';
import { MigrationStatus } from './migration.ts';
import { MigrationProgress } from './migration-options.ts';
import { MigrationPlan } from './migration-plan.ts';
import { Line, Text, Time, Uuid } from './primitives.ts';

const strict = { additionalProperties: false };

export const JobState = Type.Union([
  Type.Literal('queued'),
  Type.Literal('running'),
  Type.Literal('done'),
  Type.Literal('failed'),
  Type.Literal('cancelled'),
]);
export type JobState = Static<typeof JobState>;

/** Of the error of a job, as of every error: what the command's exit code follows from. */
const ErrorCategory = Type.Union([
  Type.Literal('invalid'),
  Type.Literal('not-found'),
  Type.Literal('conflict'),
  Type.Literal('denied'),
  Type.Literal('unauthenticated'),
  Type.Literal('unavailable'),
  Type.Literal('failed'),
  Type.Literal('internal'),
]);

const JobStep = Type.Object(
  {
    name: Line,
    state: Type.Union([Type.Literal('running'), Type.Literal('done'), Type.Literal('failed')]),
    detail: Text,
    startedAt: Time,
    finishedAt: Type.Union([Time, Type.Null()]),
  },
  strict,
);

export const Job = Type.Object(
  {
    id: Uuid,
    kind: Type.Union([
      Type.Literal('host-add'),
      Type.Literal('host-provision'),
      Type.Literal('host-remove'),
      Type.Literal('host-gate'),
      Type.Literal('key-rollover'),
      Type.Literal('migrate'),
      Type.Literal('host-renew'),
      Type.Literal('revocation'),
      Type.Literal('secret-rotate'),
      Type.Literal('host-evacuate'),
      Type.Literal('host-settings'),
    ]),
    subject: Line,
    state: JobState,
    steps: Type.Array(JobStep, { maxItems: 256 }),
    progress: Type.Union([MigrationProgress, Type.Null()]),
    /** What came of it, for people. */
    result: Type.Union([Text, Type.Null()]),
    migration: Type.Union([MigrationStatus, Type.Null()]),
    /** Of a migration: how it was decided, and what the preflight found. */
    plan: Type.Union([MigrationPlan, Type.Null()]),
    /** What whoever asked should know: that a VM crosses the network in the clear, say. */
    warnings: Type.Array(Text, { maxItems: 64 }),
    error: Type.Union([
      Type.Object(
        {
          code: Line,
          /** Absent of a job that ended under an earlier version. */
          category: Type.Optional(ErrorCategory),
          message: Text,
          hint: Type.Union([Text, Type.Null()]),
        },
        strict,
      ),
      Type.Null(),
    ]),
    createdAt: Time,
    finishedAt: Type.Union([Time, Type.Null()]),
  },
  strict,
);
export type Job = Static<typeof Job>;
