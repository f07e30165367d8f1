import { generateKeyPairSync } from 'node:crypto';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import { type ChannelIdentity, loadChannelIdentity } from '@virt-trust/channel/identity.ts';
import { PinSet } from '@virt-trust/channel/pins.ts';
import type { AgentIdentity } from '@virt-trust/contract/model/agent-identity.ts';
import { Pem } from '@virt-trust/contract/model/primitives.ts';
import { encodePrivateKeyPem } from '@virt-trust/pki/key.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { encodeWrapperCertificate } from '@virt-trust/pki/wrapper.ts';
import Type, { type Static } from 'typebox';
import { Document } from './document.ts';

const strict = { additionalProperties: false };
const StoredKey = Type.Object({ certificate: Pem, privateKey: Pem }, strict);
type StoredKey = Static<typeof StoredKey>;
const OptionalKey = Type.Union([StoredKey, Type.Null()]);

/** All keys in one file, so that each step of a rollover is one replacement. */
const StoredKeys = Type.Object({ current: StoredKey, next: OptionalKey, previous: OptionalKey }, strict);

type Identity = ChannelIdentity<'agent'>;

interface Keys {
  readonly current: Identity;
  readonly next: Identity | undefined;
  readonly previous: Identity | undefined;
}

/**
 * The agent's keys for the channel: the one in use, and a standby that managers pin ahead. A rollover is announce,
 * activate, retire, each durable before it is answered.
 */
export class IdentityStore {
  readonly #document: Document<typeof StoredKeys>;
  readonly #randomness: Randomness;
  #keys: Keys;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(document: Document<typeof StoredKeys>, keys: Keys, randomness: Randomness) {
    this.#document = document;
    this.#keys = keys;
    this.#randomness = randomness;
  }

  /** Reads the keys below `directory`, or makes the first and its standby; throws `state.corrupt`, `channel.identity_malformed`. */
  static async open(
    directory: string,
    randomness: Randomness,
  ): Promise<{ store: IdentityStore; made: boolean }> {
    const document = new Document(
      `${directory}/keys.json`,
      StoredKeys,
      `Restore ${directory}/keys.json from a backup; or remove it and enrol the host again.`,
    );
    const stored = await document.read();
    if (stored !== undefined) {
      const keys = {
        current: load(stored.current),
        next: stored.next === null ? undefined : load(stored.next),
        previous: stored.previous === null ? undefined : load(stored.previous),
      };
      return { store: new IdentityStore(document, keys, randomness), made: false };
    }
    const [current, next] = [makeIdentity(randomness), makeIdentity(randomness)];
    const keys: Keys = { current, next, previous: undefined };
    await document.write(encode(keys));
    return { store: new IdentityStore(document, keys, randomness), made: true };
  }

  /** The key in use. */
  get current(): Identity {
    return this.#keys.current;
  }

  /** The pins of all keys, which no manager may have. */
  get pins(): PinSet<'agent'> {
    const { current, next, previous } = this.#keys;
    return new PinSet(
      'agent',
      [current, next, previous].flatMap((key) => (key === undefined ? [] : [key.pin])),
    );
  }

  describe(): AgentIdentity {
    const { current, next, previous } = this.#keys;
    return { current: current.pin, next: next?.pin ?? null, previous: previous?.pin ?? null };
  }

  /** Makes the next key if there is none yet. */
  announce(): Promise<AgentIdentity> {
    return this.#change((keys) => ({ ...keys, next: keys.next ?? makeIdentity(this.#randomness) }));
  }

  /** Takes the announced key into use and keeps the former one; again with the same pin it changes nothing. */
  activate(pin: string): Promise<AgentIdentity> {
    return this.#change((keys) => {
      if (pin === keys.current.pin) return keys;
      if (keys.next === undefined || pin !== keys.next.pin) throw unknownPin('activate', pin);
      return { current: keys.next, next: undefined, previous: keys.current };
    });
  }

  /** Destroys the former key; one that is gone already is fine. Throws `identity.in_use`. */
  retire(pin: string): Promise<AgentIdentity> {
    return this.#change((keys) => {
      if (pin === keys.current.pin || pin === keys.next?.pin) {
        throw new TrustError('identity.in_use', 'conflict', `cannot retire key ${pin}: it is in use`, {
          context: { pin },
        });
      }
      return pin === keys.previous?.pin ? { ...keys, previous: undefined } : keys;
    });
  }

  #change(step: (keys: Keys) => Keys): Promise<AgentIdentity> {
    const work = async () => {
      const next = step(this.#keys);
      if (next !== this.#keys) {
        await this.#document.write(encode(next));
        this.#keys = next;
      }
      return this.describe();
    };
    const turn = this.#last.then(work, work);
    this.#last = turn.catch(() => {});
    return turn;
  }
}

function makeIdentity(randomness: Randomness): Identity {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const certificate = encodeWrapperCertificate({
    key: privateKey,
    subjectCommonName: 'virt-trust agent',
    randomness,
  });
  return load({
    certificate: encodePem('CERTIFICATE', certificate),
    privateKey: encodePrivateKeyPem(privateKey),
  });
}

function load({ certificate, privateKey }: StoredKey): Identity {
  return loadChannelIdentity({ role: 'agent', certificatePem: certificate, privateKeyPem: privateKey });
}

function encode({ current, next, previous }: Keys): Static<typeof StoredKeys> {
  const stored = (key: Identity) => ({ certificate: key.certificatePem, privateKey: key.privateKeyPem });
  return {
    current: stored(current),
    next: next === undefined ? null : stored(next),
    previous: previous === undefined ? null : stored(previous),
  };
}

function unknownPin(verb: string, pin: string): TrustError {
  return new TrustError(
    'identity.unknown_pin',
    'conflict',
    `cannot ${verb} key ${pin}: it was not announced`,
    {
      context: { pin },
      hint: "Ask for the agent's identity and announce a key first.",
    },
  );
}
