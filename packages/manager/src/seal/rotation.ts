import { setTimeout as sleep } from 'node:timers/promises';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { JobContext, JobDefinition } from '../jobs/job.ts';
import type { Seal } from './seal.ts';
import { type SealKey, sealKeyOf } from './seal-key.ts';
import { credentialNotOurs, readSealKeys, type SealKeyPlace, writeSealKeys } from './seal-key-file.ts';

/** Every sealed value of the store, wherever it is. Each method is one unit of work. */
export interface SealedValues {
  /** Seals at most `limit` values under the key in use that are under another; returns how many there were. */
  sealAnew(seal: Seal, limit: number): number;
  /** How many are under another key. */
  left(keyId: string): number;
  /** Empties the log of the database, where former values may stand; false where somebody reads it. */
  flushLog(): boolean;
}

export interface RotationParts {
  readonly values: SealedValues;
  readonly seal: Seal;
  readonly place: SealKeyPlace;
  readonly randomness: Randomness;
  readonly audit: AuditLog;
}

/** So many values are sealed in one transaction: some milliseconds in which nobody else is served. */
const BATCH = 32;
const FLUSH_TRIES = 150;
const FLUSH_PAUSE_MS = 200;

/**
 * Seals every secret under a new key while the manager serves: the new key is durable before anything is sealed under
 * it, new values are sealed under it at once, and the old key is destroyed when nothing is left under it. Killed
 * anywhere, both keys are in the file; the next start finishes what this job then finds done.
 */
export function rotationJob(parts: RotationParts): JobDefinition<Record<string, never>> {
  const { values, seal, place } = parts;
  return {
    kind: 'secret-rotate',
    cancellable: false,
    async run(_, job) {
      if (place.kind === 'credential') throw credentialNotOurs(place);
      await job.step('Make a new key', async (report) => report(`seal key ${await makeKey(parts, job)}`));
      await job.step('Seal everything under it', async (report) => {
        for (let total = 0; ; ) {
          const count = values.sealAnew(seal, BATCH);
          if (count === 0) break;
          total += count;
          report(`${total} secrets`);
          // Lets others be served between batches.
          await new Promise(setImmediate);
          job.signal.throwIfAborted();
        }
      });
      await job.step('Destroy the old key', async () => {
        await flushLog(values, job.signal);
        // SECURITY: nothing runs between the count and the end of the old key.
        const left = values.left(seal.keyId);
        if (left > 0) throw leftOver(left);
        const active = keysOf(place).slice(-1);
        writeSealKeys(place.path, active);
        seal.use(active);
      });
      const detail = 'everything is sealed anew, the old key is destroyed';
      await parts.audit.append([
        { actor: job.actor, action: 'seal.rotate', subject: seal.keyId, outcome: 'done', detail },
      ]);
      return `everything is sealed under key ${seal.keyId}, the old key is destroyed; backups made before need it: make a new one`;
    },
  };
}

/** The id of the key that everything will be sealed under, the same after a crash. */
async function makeKey({ place, seal, randomness }: RotationParts, job: JobContext): Promise<string> {
  const keys = keysOf(place);
  const remembered = await job.recall('key');
  // A rotation of before that failed half way is finished; this one has begun, or the start of the manager has ended it.
  const [active] = keys.slice(-1);
  if (active !== undefined && (keys.length > 1 || active.id === remembered)) {
    await job.remember('key', active.id);
    seal.use(keys);
    return active.id;
  }
  const next = sealKeyOf(randomness.bytes(32));
  await job.remember('key', next.id);
  writeSealKeys(place.path, [...keys, next]);
  seal.use([...keys, next]);
  return next.id;
}

function keysOf(place: SealKeyPlace): SealKey[] {
  const keys = readSealKeys(place);
  if (keys !== undefined) return keys;
  throw new TrustError(
    'seal.key_missing',
    'conflict',
    `cannot rotate the seal key: ${place.path} is missing`,
    {
      hint: 'restore the file from the place where it was kept safe, before the manager stops',
    },
  );
}

async function flushLog(values: SealedValues, signal: AbortSignal): Promise<void> {
  for (let tries = 0; tries < FLUSH_TRIES; tries++) {
    signal.throwIfAborted();
    if (values.flushLog()) return;
    await sleep(FLUSH_PAUSE_MS, undefined, { signal });
  }
  throw new TrustError(
    'seal.log_busy',
    'unavailable',
    'cannot end the rotation: another program reads the database, so its log keeps what the old key sealed',
    { hint: 'let it end (a backup?), then run the same command again; both keys are valid until then' },
  );
}

function leftOver(left: number): TrustError {
  return new TrustError(
    'seal.left_over',
    'failed',
    `cannot end the rotation: ${left} secrets came to be under the old key meanwhile`,
    { hint: 'run the same command again; both keys are valid until then' },
  );
}
