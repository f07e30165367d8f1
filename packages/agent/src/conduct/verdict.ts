import type { DomainState } from '@virt-trust/libvirt/domain-state.ts';

/**
 * What the destination's state says of a migration whose end was not heard: the VM runs `there` or ran; it is `absent`,
 * so that it may go on at the source; libvirt is still at it (`undecided`); or post-copy goes on, or broke.
 */
export type Verdict = 'there' | 'absent' | 'undecided' | 'post-copy' | 'post-copy-failed';

/** An incoming VM before libvirt starts it, and one whose reason nobody told. */
const BEFORE_ITS_START = ['migrating', 'starting up', 'unknown'];
/** Of a VM that is off because it ran and came to its own end; a stop of libvirt's has other reasons. */
const ENDED_BY_ITSELF = ['shutdown', 'crashed'];

/** Judges the VM at the destination once Finish was sent; null where it is not there at all. */
export function judgeDestination(seen: DomainState | null): Verdict {
  if (seen === null) return 'absent';
  const { state, reason } = seen;
  if (reason === 'post-copy failed') return 'post-copy-failed';
  if (reason === 'post-copy') return 'post-copy';
  // SECURITY: where it is not certain that it does not run there, it must not run here.
  if (state === 'paused') return BEFORE_ITS_START.includes(reason) ? 'undecided' : 'there';
  if (state === 'shut off') return ENDED_BY_ITSELF.includes(reason) ? 'there' : 'absent';
  return state === 'no state' ? 'undecided' : 'there';
}
