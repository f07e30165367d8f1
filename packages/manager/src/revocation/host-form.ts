import type { RevocationReason } from '@virt-trust/contract/model/certificate.ts';
import type { ListedRevocation } from './revocation.ts';

/** So many entries QEMU loads at each start, reload and handshake without harm. */
export const HOST_ENTRIES = 1000;
/** From so many on somebody should know. */
export const HOST_ENTRIES_WARNING = 800;

/** Reasons for which nobody else is thought to have the key. */
const HARMLESS: ReadonlySet<RevocationReason> = new Set([
  'cessationOfOperation',
  'superseded',
  'affiliationChanged',
]);

/**
 * The entries that hosts get: all of them, or where they are too many those that matter most, newest first; first to be
 * left out are former canaries, whose keys are gone, then what nobody else has the key of, the oldest first.
 */
export function hostForm(
  listed: readonly ListedRevocation[],
  canary: string | null,
  limit = HOST_ENTRIES,
): readonly ListedRevocation[] {
  if (listed.length <= limit) return listed;
  /** Places of the newest, by how much they matter; no more than could be taken. */
  const places: readonly number[][] = [[], [], [], []];
  for (let place = listed.length - 1; place >= 0; place--) {
    const some = places[importance(listed[place] as ListedRevocation, canary)] as number[];
    if (some.length < limit) some.push(place);
  }
  const kept = places.toReversed().flat().slice(0, limit);
  return kept.sort((one, other) => one - other).map((place) => listed[place] as ListedRevocation);
}

function importance(entry: ListedRevocation, canary: string | null): 0 | 1 | 2 | 3 {
  if (entry.canary) return entry.serialNumber === canary ? 3 : 0;
  return HARMLESS.has(entry.reason) ? 1 : 2;
}
