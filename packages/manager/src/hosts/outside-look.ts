import type { Instant } from '@virt-trust/base/instant.ts';

/** What the manager saw when it made libvirt's handshake with a host itself, from outside. */
export interface OutsideLook {
  readonly state:
    | 'as-desired'
    /** Another certificate was served. */
    | 'drifted'
    /** There was an answer, but no handshake by libvirt's rules. */
    | 'refused'
    /** No connection. */
    | 'unreachable';
  readonly detail: string;
  /** False where nothing was heard, from the agent on its channel either: the host is away, whatever it serves. */
  readonly agentAnswered: boolean;
  /** When this state was first seen, and last. */
  readonly since: Instant;
  readonly at: Instant;
}
