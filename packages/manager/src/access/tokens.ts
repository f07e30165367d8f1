import { randomUUID, timingSafeEqual } from 'node:crypto';
import type { Clock } from '@virt-trust/base/clock.ts';
import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { type Instant, MINUTE } from '@virt-trust/base/instant.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import type { Role, Token } from '@virt-trust/contract/model/access.ts';
import { hashTokenSecret, isTokenSecret, makeTokenSecret } from './token.ts';
import type { TokenStore } from './token-store.ts';

const MOST_TOKENS = 1000;

/** Who may use the API: tokens whose secrets are shown once and kept as hashes. */
export class Tokens {
  readonly #store: TokenStore;
  readonly #clock: Clock;
  readonly #randomness: Randomness;

  constructor(store: TokenStore, clock: Clock, randomness: Randomness) {
    this.#store = store;
    this.#clock = clock;
    this.#randomness = randomness;
  }

  /** Makes the first administrator's token where there is no token at all, and returns its secret, this once. */
  async createFirst(): Promise<string | undefined> {
    if ((await this.#store.list()).length > 0) return undefined;
    return (await this.create('administrator', 'administrator', 'manager')).secret;
  }

  async create(name: string, role: Role, actor: string): Promise<{ token: Token; secret: string }> {
    if ((await this.#store.list()).length >= MOST_TOKENS) {
      throw new TrustError(
        'token.too_many',
        'conflict',
        `cannot make token ${name}: there are ${MOST_TOKENS}`,
        {
          hint: 'delete tokens that are not used any more',
        },
      );
    }
    const secret = makeTokenSecret(this.#randomness);
    const token: Token = { id: randomUUID(), name, role, createdAt: this.#clock.now(), lastUsedAt: null };
    const audit = { actor, action: 'token.create', subject: name, outcome: 'done', detail: role } as const;
    try {
      await this.#store.add({ token, secretHash: hashTokenSecret(secret) }, audit);
    } catch (cause) {
      if (!isTrustError(cause, 'store.duplicate')) throw cause;
      throw new TrustError(
        'token.exists',
        'conflict',
        `cannot make token ${name}: there is one of that name`,
        {
          hint: 'choose another name, or delete that one first',
          cause,
        },
      );
    }
    return { token, secret };
  }

  list(): Promise<Token[]> {
    return this.#store.list();
  }

  /** Takes a token away; the last administrator's stays. */
  async delete(id: string, actor: string): Promise<void> {
    const tokens = await this.#store.list();
    const token = tokens.find((other) => other.id === id);
    if (token === undefined) throw new TrustError('token.unknown', 'not-found', `cannot find token ${id}`);
    const administrators = tokens.filter(({ role }) => role === 'administrator');
    if (token.role === 'administrator' && administrators.length === 1) {
      throw new TrustError(
        'token.last_administrator',
        'conflict',
        `cannot delete token ${token.name}: it is the last administrator's`,
        { hint: 'make another administrator token first' },
      );
    }
    const audit = {
      actor,
      action: 'token.delete',
      subject: token.name,
      outcome: 'done',
      detail: token.role,
    } as const;
    await this.#store.delete(id, audit);
  }

  /** The token of a secret, or undefined for whatever is none. */
  async authenticate(secret: string): Promise<Token | undefined> {
    if (!isTokenSecret(secret)) return undefined;
    const secretHash = hashTokenSecret(secret);
    const record = await this.#store.findByHash(secretHash);
    // SECURITY: the lookup goes by the hash, which the caller can't steer towards a stored one; what it found is compared in constant time.
    if (record === undefined || !timingSafeEqual(record.secretHash, secretHash)) return undefined;
    const { token } = record;
    const now = this.#clock.now();
    // Written once a minute at most: a durable write for each request would cost more than the request.
    if (token.lastUsedAt === null || now - token.lastUsedAt >= MINUTE) await this.#used(token.id, now);
    return token;
  }

  /** On a full disk the manager can still be asked what is wrong. */
  async #used(id: string, now: Instant): Promise<void> {
    try {
      await this.#store.used(id, now);
    } catch (error) {
      if (!isTrustError(error)) throw error;
    }
  }
}
