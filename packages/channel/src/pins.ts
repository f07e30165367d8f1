import { TrustError } from '@virt-trust/base/error.ts';
import { parseSpkiPin, pinMatches, type SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { ChannelRole } from './alpn.ts';

/** The pins under which the other side is trusted, all of one role: several keys, fail-over, the next key. */
export class PinSet<Role extends ChannelRole = ChannelRole> implements Iterable<SpkiPin> {
  readonly role: Role;
  readonly pins: readonly SpkiPin[];

  /** Each pin is parsed again, because they come from files and requests; throws `pin.malformed`. */
  constructor(role: Role, pins: Iterable<string>) {
    this.role = role;
    this.pins = Object.freeze([...new Set([...pins].map(parseSpkiPin))]);
  }

  /** Whether the pin is one of these; the time taken tells nothing about which or how nearly. */
  isTrusted(pin: SpkiPin): boolean {
    return pinMatches(pin, this.pins);
  }

  [Symbol.iterator](): Iterator<SpkiPin> {
    return this.pins[Symbol.iterator]();
  }
}

/**
 * Refuses sets in which one pin stands in both roles, so that a manager's key never passes as an agent's
 * nor the reverse; throws `channel.pin_role`.
 */
export function requireSeparateRoles(...sets: readonly PinSet[]): void {
  const roles = new Map<SpkiPin, ChannelRole>();
  for (const { role, pins } of sets) {
    for (const pin of pins) {
      const other = roles.get(pin);
      if (other !== undefined && other !== role) {
        throw new TrustError(
          'channel.pin_role',
          'conflict',
          `cannot trust ${pin} as ${role}: it is already the key of a party in the role ${other}`,
          {
            context: { pin, role, other },
            hint: 'Each manager and each agent has a key of its own; make a new one on one of the two.',
          },
        );
      }
      roles.set(pin, role);
    }
  }
}
