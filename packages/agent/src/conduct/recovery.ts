import { TrustError } from '@virt-trust/base/error.ts';
import { domainAbortJob } from '@virt-trust/libvirt/migration-protocol.ts';
import { findDomain, hasJob, stateOf } from './domain.ts';
import { type Journal, type Outcome, operatorNeeded } from './outcome.ts';
import { migrationFlags } from './parameters.ts';
import { Settling, type SettlingParts } from './settling.ts';

const LOOK_MS = 1000;
/** Looks at a VM that stands still with a job: long enough for a transfer's last moment. */
const LAST_MOMENT = 5;
const NONE = new Uint8Array();
const OFFLINE = 1 << 10;

/**
 * Brings to an end a migration whose conductor died: libvirt has ended what belonged to its connections, so that the VM
 * goes on at the source, unless Finish was sent, which is asked about then.
 */
export async function recover(
  journal: Journal,
  parts: Omit<SettlingParts, 'uuid' | 'wasPaused' | 'source'>,
): Promise<Outcome> {
  const { order } = parts;
  const failure = new TrustError(
    'migration.conductor_died',
    'failed',
    `cannot migrate ${order.vm}: the process that conducted it ended in phase ${journal.step}`,
    { hint: 'see journalctl on that host for why it ended, then migrate again' },
  );
  const end = { step: journal.step } as const;
  const failed = (runsOn: Outcome['runsOn']): Outcome => ({
    ...end,
    phase: 'failed',
    runsOn,
    error: { message: failure.message, hint: failure.hint ?? null },
  });
  const { uuid } = journal;
  const told = { ...order, uuid };
  // Nothing had begun.
  if (uuid === null) return failed('source');
  const settling = new Settling({ ...parts, uuid, wasPaused: journal.wasPaused });
  if (!journal.finishSent) await untilTransferEnded(uuid, parts);
  const place = journal.finishSent ? await settling.where() : 'source';
  if (place === 'unknown')
    return operatorNeeded(told, journal.isPostCopy ? 'post-copy-unknown' : 'unknown', journal.step, failure);
  if (place === 'post-copy-failed') return operatorNeeded(told, place, journal.step, failure);
  const flags = migrationFlags(order);
  const settled = await settling.settle(place, {
    params: [],
    cookieIn: NONE,
    flags,
    isOffline: (flags & OFFLINE) !== 0,
  });
  switch (settled.kind) {
    case 'unsettled':
      return operatorNeeded(told, place, journal.step, settled.reason);
    case 'post-copy-failed':
      return operatorNeeded(told, 'post-copy-failed', journal.step, failure);
    case 'gone':
      return failed('neither');
    case 'settled':
      return place === 'destination'
        ? { phase: 'done', step: null, runsOn: 'destination', error: null }
        : failed('source');
  }
}

/** A transfer goes on without us until the destination, which lost us too, ends it; helps it to its end. */
export async function untilTransferEnded(
  uuid: string,
  { order, openSource, now, sleep }: Pick<SettlingParts, 'order' | 'openSource' | 'now' | 'sleep'>,
): Promise<void> {
  const until = now() + order.doubtSeconds * 1000;
  for (let still = 0; now() < until; ) {
    try {
      const client = await openSource();
      try {
        const domain = await findDomain(client, { uuid });
        if (domain === undefined || !(await hasJob(client, domain))) return;
        const state = await stateOf(client, uuid);
        if (state?.state === 'paused' && ++still >= LAST_MOMENT) return;
        await client.call(domainAbortJob, { domain });
      } finally {
        await client.close();
      }
    } catch {
      // A libvirt that is being started answers in a moment.
    }
    await sleep(LOOK_MS);
  }
}
