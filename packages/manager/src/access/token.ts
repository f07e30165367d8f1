import { hash } from 'node:crypto';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import type { Role } from '@virt-trust/contract/model/access.ts';

const SECRET = /^vt_[A-Za-z0-9_-]{43}$/;
const RANK: Readonly<Record<Role, number>> = { auditor: 1, operator: 2, administrator: 3 };

/** A fresh secret of 256 random bits; the prefix lets scanners of repositories find it. */
export function makeTokenSecret(randomness: Randomness): string {
  return `vt_${Buffer.from(randomness.bytes(32)).toString('base64url')}`;
}

/** True for the written form of a secret. */
export function isTokenSecret(text: string): boolean {
  return SECRET.test(text);
}

/** What is kept of a secret. One hash is enough: 256 random bits can't be guessed from it. */
export function hashTokenSecret(secret: string): Uint8Array {
  return hash('sha256', secret, 'buffer');
}

/** Whether a role may do what another may: administrator, operator, auditor. */
export function roleSuffices(role: Role, needed: Role): boolean {
  return RANK[role] >= RANK[needed];
}
