import type { Randomness } from '@virt-trust/base/randomness.ts';
import type { ConsoleType } from '@virt-trust/contract/model/console.ts';

/** RFC 6143 §7.2.2: a VNC password is a DES key of 8 characters, what is beyond is cut off; SPICE takes 60. */
const LENGTHS: Readonly<Record<ConsoleType, number>> = { vnc: 8, spice: 32 };

/** A password of 6 random bits for each of its characters, which are those of base64url (RFC 4648 §5). */
export function makeConsolePassword(type: ConsoleType, randomness: Randomness): string {
  const length = LENGTHS[type];
  return Buffer.from(randomness.bytes(Math.ceil((length * 6) / 8)))
    .toString('base64url')
    .slice(0, length);
}
