import { describeError } from '@virt-trust/base/error.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import type { Workshop } from '../served/workshop.ts';
import type { HostFacts } from '../services/host-effects.ts';
import type { Journal, ServiceState } from '../sets/apply-state.ts';
import { clean, failureOf } from '../sets/failure.ts';
import { givesBack } from './giving-back.ts';
import { type HostAction, parseStep, planWayBack, type ServiceAction } from './plan.ts';
import { readsDefaults } from './reads-defaults.ts';
import type { RestartWait } from './restart-wait.ts';

/** What a step works on: the journal it may change, and the host as it was when the run began. */
export interface StepContext {
  readonly workshop: Workshop;
  journal: Journal;
  /** As they were when the run began, or when a wait for migrations ended. */
  facts: HostFacts;
  /** Resolves at the next change that a waiting step may wait for. */
  readonly changed: () => Promise<void>;
  /** Throws `apply.superseded` or `apply.stopped` where waiting has no point any more. */
  readonly checkWaiting: () => void;
  /** How long a restart waits for migrations at most. */
  readonly waitSeconds: () => number;
  /** Makes known what a restart waits for; undefined once it waits no more. */
  readonly waits: (wait: RestartWait | undefined) => void;
}

/** The function that does each step. */
export interface StepTable {
  readonly service: Readonly<
    Record<ServiceAction, (context: StepContext, service: Service) => Promise<void>>
  >;
  readonly host: Readonly<Record<HostAction, (context: StepContext) => Promise<void>>>;
}

/**
 * Runs the journaled list from where it stands. Each step may have been done before, in part or whole: the journal
 * moves on only after it. A step of an application that fails begins the way back.
 */
export async function runJournal(table: StepTable, context: StepContext): Promise<void> {
  const { workshop } = context;
  const { barrier, clock, log } = workshop.options;
  for (;;) {
    const { journal } = context;
    const name = journal.steps[journal.at];
    if (name === undefined) return;
    await barrier(journal.offset + journal.at, name);
    const step = parseStep(name);
    log.debug({ step: name }, 'step');
    try {
      if (step.kind === 'service') await table.service[step.action](context, step.service);
      else await table.host[step.action](context);
      const next = { ...context.journal, at: context.journal.at + 1 };
      await workshop.journal.write(next);
      context.journal = next;
    } catch (error) {
      if (isStop(error)) throw error;
      const failure = failureOf(error, name, clock.now());
      log.warn({ step: name, code: failure.code, error: describeError(error) }, 'step failed');
      if (givesBack(context.journal)) throw error;
      await fail(context, step.kind === 'service' ? step.service : serviceOf(name), failure);
    }
  }
}

/** The proof of the manager is libvirt's. */
function serviceOf(step: string): Service | null {
  return step === 'await-proof' ? 'libvirt' : null;
}

async function fail(
  context: StepContext,
  service: Service | null,
  failure: NonNullable<ServiceState['failure']>,
): Promise<void> {
  const { workshop } = context;
  const { journal } = context;
  await workshop.reserve.release();
  if (journal.kind === 'applying') {
    const manifest = await workshop.found.read();
    const readsFound = manifest !== undefined && readsDefaults(manifest, 'libvirt');
    await workshop.options.emit(
      'apply.failed',
      service ?? 'settings',
      `${failure.message} (step ${failure.step}); going back`,
    );
    context.journal = {
      ...journal,
      kind: 'going-back',
      steps: planWayBack(journal, readsFound),
      at: 0,
      offset: journal.offset + journal.steps.length,
      failure: { service, failure },
    };
  } else {
    // The way back is gone to its end all the same; what it could not do is said.
    await workshop.options.emit('apply.back_failed', failure.step, failure.message);
    const first = journal.failure;
    context.journal = {
      ...journal,
      at: journal.at + 1,
      failure:
        first === null
          ? { service, failure }
          : {
              ...first,
              failure: {
                ...first.failure,
                message: clean(
                  `${first.failure.message}; on the way back, ${failure.step}: ${failure.message}`,
                ),
              },
            },
    };
  }
  await workshop.journal.write(context.journal);
}

/** Thrown to leave the journal as it stands, because the agent ends. */
export class Stopped extends Error {
  override readonly name = 'Stopped';
}

function isStop(error: unknown): boolean {
  return error instanceof Stopped;
}
