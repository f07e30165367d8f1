import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import type { EvacuateHost } from '@virt-trust/contract/model/migration.ts';
import { collect } from '../hosts/collect.ts';
import type { Host } from '../hosts/host.ts';
import { requireHost } from '../hosts/require-host.ts';
import { Slots } from '../hosts/slots.ts';
import type { JobContext, JobDefinition } from '../jobs/job.ts';
import { Cancelled } from '../jobs/job-runner.ts';
import type { MigrationContext } from './context.ts';
import { destinationsOf, vmOrder } from './destinations.ts';
import { managedEnd } from './migration-end.ts';
import { enqueueMigration, type MigrationJob } from './migration-job.ts';
import { vmsOf } from './vms-of-host.ts';

/** Which host is emptied, and how. */
export interface EvacuationOrder {
  readonly host: string;
  readonly order: EvacuateHost;
}

/** Hosts that are tried for one VM; more would only fail for the same reason. */
const ATTEMPTS = 3;
const LOOK_MS = 20_000;
/** VMs that are named one by one. */
const NAMES = 64;
/** Failures after which nobody but a person may move the VM again. */
const FINAL: ReadonlySet<string> = new Set(['migration.operator_needed', 'migration.outcome_unknown']);

/** What became of one VM. */
interface Outcome {
  readonly vm: string;
  /** Where it runs now; null where it stays, or nobody knows. */
  readonly on: string | null;
  readonly why: string;
}

/** Empties a host: a migration of its own for each VM that runs there, a bounded number at once. */
export function evacuationJob(
  context: MigrationContext,
  migration: MigrationJob,
): JobDefinition<EvacuationOrder> {
  return {
    kind: 'host-evacuate',
    run: (order, job) => evacuate(order, migration, context, job),
  };
}

async function evacuate(
  { host: name, order }: EvacuationOrder,
  migration: MigrationJob,
  context: MigrationContext,
  job: JobContext,
): Promise<string> {
  const host = await requireHost(name, context);
  const { vms, off } = await job.step('Look what runs there', async (report) => {
    const known = (await job.recall('vms')) as readonly string[] | undefined;
    const running = known ?? (await runningOn(host, context, job.signal));
    const others =
      ((await job.recall('off')) as readonly string[] | undefined) ?? (await offOn(host, context, job));
    await job.remember('off', [...others]);
    if (known === undefined) await job.remember('vms', [...running]);
    report(
      `${running.length === 0 ? 'nothing' : `${running.length}: ${running.join(', ')}`}${offAndStay(others)}`,
    );
    return { vms: running, off: others };
  });
  const concurrency =
    order.concurrency ??
    (await context.settings.value('migration.concurrency', { host: name, cluster: host.cluster }));
  const slots = new Slots(concurrency);
  const sent = new Map<string, number>();
  const outcomes = await Promise.all(
    vms.map((vm) =>
      slots
        .run(job.signal, () => moveAway({ vm, host, order, migration, sent }, context, job))
        .catch((error: unknown): Outcome => ({ vm, on: null, why: whyNot(error) })),
    ),
  );
  // The manager stops: it goes on at the next start.
  if (!isCancelled(job)) job.signal.throwIfAborted();
  const left = await runningOn(host, context, AbortSignal.timeout(LOOK_MS)).catch(() => []);
  const started = left
    .filter((vm) => !vms.includes(vm))
    .map((vm) => ({ vm, on: null, why: 'it was started meanwhile' }));
  return summary(name, [...outcomes, ...started], off, isCancelled(job));
}

function isCancelled({ signal }: JobContext): boolean {
  return signal.reason instanceof Cancelled;
}

function whyNot(error: unknown): string {
  return error instanceof Cancelled ? 'not begun' : describeError(error);
}

/** The VMs that are off by name; none where libvirt does not say. */
async function offOn(host: Host, context: MigrationContext, job: JobContext): Promise<string[]> {
  const end = managedEnd(host);
  const vms = await vmsOf(end, end, context, job.signal).catch(() => []);
  job.signal.throwIfAborted();
  return vms
    .filter(({ active }) => !active)
    .map(({ name }) => name)
    .toSorted();
}

/** Nobody should take a host for empty of which VMs are only off. */
function offAndStay(off: readonly string[]): string {
  if (off.length === 0) return '';
  const more = off.length > NAMES ? ` and ${off.length - NAMES} more` : '';
  return `; off, and stay: ${off.slice(0, NAMES).join(', ')}${more}`;
}

interface Leaving {
  readonly vm: string;
  readonly host: Host;
  readonly order: EvacuateHost;
  readonly migration: MigrationJob;
  /** How many of this evacuation went to each host, or are on their way. */
  readonly sent: Map<string, number>;
}

async function moveAway(leaving: Leaving, context: MigrationContext, job: JobContext): Promise<Outcome> {
  const { vm, sent } = leaving;
  const tried: string[] = [];
  const reasons: string[] = [];
  while (tried.length < ATTEMPTS) {
    const to = await destinationFor(leaving, tried, context, job);
    if (to === null) break;
    sent.set(to, (sent.get(to) ?? 0) + 1);
    tried.push(to);
    const ended = await job
      .step(`Migrate ${vm} to ${to}`, (report) => moved(leaving, to, context, job, report))
      .catch((error: unknown) => error);
    if (!(ended instanceof Error)) return { vm, on: to, why: '' };
    if (!isCancelled(job)) job.signal.throwIfAborted();
    sent.set(to, (sent.get(to) ?? 1) - 1);
    if (ended instanceof Cancelled && reasons.length === 0) throw ended;
    reasons.push(`${to}: ${whyNot(ended)}`);
    if (isCancelled(job) || (isTrustError(ended) && FINAL.has(ended.code))) break;
  }
  return { vm, on: null, why: reasons.join('; ') };
}

/** The best host that was not tried yet, the same again after a restart of the manager; null where there is none. */
async function destinationFor(
  { vm, host, order, sent }: Leaving,
  tried: readonly string[],
  context: MigrationContext,
  job: JobContext,
): Promise<string | null> {
  const key = `destination ${tried.length} of ${vm}`;
  const known = await job.recall(key);
  if (typeof known === 'string') return known;
  const all = await destinationsOf(host, order, vm, context).catch((error: unknown) => {
    if (tried.length === 0) throw error;
    return [];
  });
  const load = ({ name, vms }: (typeof all)[number]) => vms + (sent.get(name) ?? 0);
  const [first, ...others] = all.filter(({ name }) => !tried.includes(name));
  if (first === undefined) return null;
  const safest = first.planned.decision.mode;
  const best = others
    .filter(({ planned }) => planned.decision.mode === safest)
    .reduce((least, one) => (load(one) < load(least) ? one : least), first);
  await job.remember(key, best.name);
  return best.name;
}

/** One migration as a job of its own, followed to its end; throws why it failed. */
async function moved(
  { vm, host, order, migration }: Leaving,
  to: string,
  context: MigrationContext,
  job: JobContext,
  report: (detail: string) => void,
): Promise<Job> {
  const key = { owner: `evacuation ${job.id}`, key: `${vm} ${to}`, digest: '' };
  const child = await enqueueMigration(
    migration,
    vmOrder(host.name, to, vm, order),
    { actor: job.actor, idempotencyKey: key },
    context,
  );
  const cancel = () => {
    if (job.signal.reason instanceof Cancelled)
      context.jobs.cancel(child.id, job.actor).catch(() => {
        // It is over by itself.
      });
  };
  job.signal.addEventListener('abort', cancel, { once: true });
  if (job.signal.aborted) cancel();
  const stopping = new AbortController();
  const onStop = () => {
    if (!(job.signal.reason instanceof Cancelled)) stopping.abort();
  };
  job.signal.addEventListener('abort', onStop);
  if (job.signal.aborted) onStop();
  try {
    let last = child;
    for await (const { job: now } of context.jobs.follow(child.id, stopping.signal)) {
      last = now;
      job.warn(now.warnings);
      report(`job ${child.id}: ${now.steps.at(-1)?.detail || now.state}`);
    }
    if (last.state === 'done') {
      report(last.result ?? 'done');
      return last;
    }
    if (!isCancelled(job)) job.signal.throwIfAborted();
    throw failureOf(last);
  } finally {
    job.signal.removeEventListener('abort', cancel);
    job.signal.removeEventListener('abort', onStop);
  }
}

function failureOf({ id, state, error }: Job): TrustError {
  const hint = error?.hint == null ? {} : { hint: error.hint };
  if (state === 'cancelled' && error === null)
    return new TrustError('job.cancelled', 'failed', `its migration was cancelled (job ${id})`);
  return new TrustError(
    error?.code ?? `job.${state}`,
    'failed',
    error?.message ?? `cannot follow job ${id} to its end: it is ${state}`,
    hint,
  );
}

async function runningOn(host: Host, context: MigrationContext, signal: AbortSignal): Promise<string[]> {
  const { inventory } = await collect(host.name, context, signal);
  return (inventory?.runningVms ?? []).map(({ name }) => name).toSorted();
}

/** Which VM is where; throws, with why, where one stayed. */
function summary(
  host: string,
  outcomes: readonly Outcome[],
  off: readonly string[],
  cancelled: boolean,
): string {
  const gone = outcomes.filter(({ on }) => on !== null);
  const stayed = outcomes.filter(({ on }) => on === null);
  const places = [...new Set(gone.map(({ on }) => on))]
    .map(
      (on) =>
        `${gone
          .filter((one) => one.on === on)
          .map(({ vm }) => vm)
          .join(', ')} on ${on}`,
    )
    .join('; ');
  if (stayed.length === 0)
    return `${gone.length === 0 ? `nothing ran on ${host}` : `${host} is empty: ${places}`}${offAndStay(off)}`;
  throw new TrustError(
    cancelled ? 'job.cancelled' : 'migration.evacuation_incomplete',
    'failed',
    `cannot empty ${host}: ${cancelled ? 'it was cancelled; ' : ''}${stayed.length} of ${outcomes.length} VMs did not leave: ${stayed
      .map(({ vm, why }) => `${vm} (${why})`)
      .join('; ')}${places === '' ? '' : `; moved: ${places}`}${offAndStay(off)}`,
    {
      hint: `see each with: virt-trust job list; ${cancelled ? 'to go on with these' : 'when that is mended'}: virt-trust migrate --all --from ${host}`,
    },
  );
}
