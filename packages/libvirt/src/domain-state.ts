/** A VM's state in the words of `virsh domstate`, with the reason as `virsh domstate --reason` says it. */
export interface DomainState {
  readonly state: string;
  readonly reason: string;
}

/** `virDomainState` with the reasons of each, in the order of their numbers (libvirt-domain.h; virsh-domain-monitor.c). */
const STATES: readonly (readonly [state: string, reasons: readonly string[]])[] = [
  ['no state', ['unknown']],
  [
    'running',
    [
      'unknown',
      'booted',
      'migrated',
      'restored',
      'from snapshot',
      'unpaused',
      'migration canceled',
      'save canceled',
      'event wakeup',
      'crashed',
      'post-copy',
      'post-copy failed',
    ],
  ],
  ['idle', ['unknown']],
  [
    'paused',
    [
      'unknown',
      'user',
      'migrating',
      'saving',
      'dumping',
      'I/O error',
      'watchdog',
      'from snapshot',
      'shutting down',
      'creating snapshot',
      'crashed',
      'starting up',
      'post-copy',
      'post-copy failed',
      'api error',
    ],
  ],
  ['in shutdown', ['unknown', 'user']],
  [
    'shut off',
    ['unknown', 'shutdown', 'destroyed', 'crashed', 'migrated', 'saved', 'failed', 'from snapshot', 'daemon'],
  ],
  ['crashed', ['unknown', 'panicked']],
  ['pmsuspended', ['unknown']],
];

/** libvirt's numbers of a VM's state in words. */
export function domainState(state: number, reason: number): DomainState {
  const [word, reasons] = STATES[state] ?? [`state ${state}`, []];
  return { state: word, reason: reasons[reason] ?? `reason ${reason}` };
}
