import { createHash, generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { createServer, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2';
import type { TestContext } from 'node:test';
import { type ConnectionOptions, connect } from 'node:tls';
import { type Instant, NEVER } from '@virt-trust/base/instant.ts';
import { pinOfSpki, type SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { OID } from '@virt-trust/pki/der/oid.ts';
import { encodeTime } from '@virt-trust/pki/der/time.ts';
import {
  bitString,
  explicit,
  octetString,
  oid,
  sequence,
  setOfOne,
  smallInteger,
  utf8String,
} from '@virt-trust/pki/der/writer.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import type { ChannelRole } from './alpn.ts';
import type { ChannelTarget } from './connection-options.ts';
import { channelServerOptions } from './http2-limits.ts';
import { type ChannelIdentity, loadChannelIdentity } from './identity.ts';
import { type ChannelListener, type ListenOptions, listenChannel } from './listener.ts';
import type { PinSet } from './pins.ts';
import type { Refusal } from './refusals.ts';
import type { Sleep } from './sleep.ts';

/** For tests: an identity whose certificate says what the test wants, true or not. */
export function identityOf<Role extends ChannelRole>(
  role: Role,
  { subject = 'fixture', notBefore = 0 as Instant, notAfter = NEVER, padding = 0 } = {},
): ChannelIdentity<Role> {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const algorithm = sequence(oid(OID.ecdsaWithSha256));
  const name = sequence(setOfOne(sequence(oid(OID.commonName), utf8String(subject))));
  const tbs = sequence(
    explicit(0, smallInteger(2)),
    smallInteger(randomBytes(3).readUIntBE(0, 3)),
    algorithm,
    name,
    sequence(encodeTime(notBefore), encodeTime(notAfter)),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    // An extension of a private enterprise, as large as the test wants.
    explicit(3, sequence(sequence(oid('1.3.6.1.4.1.99999.1'), octetString(new Uint8Array(padding))))),
  );
  const certificate = sequence(tbs, algorithm, bitString(sign('sha256', tbs, privateKey)));
  return loadChannelIdentity({
    role,
    certificatePem: encodePem('CERTIFICATE', certificate),
    privateKeyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  });
}

/** For tests: a well-formed pin that no key has. */
export function madeUpPin(of: string): SpkiPin {
  return pinOfSpki(createHash('sha256').update(of).digest());
}

export interface TestAgent {
  readonly agent: ChannelIdentity<'agent'>;
  readonly manager: ChannelIdentity<'manager'>;
  readonly listener: ChannelListener;
  readonly target: ChannelTarget;
  readonly refusals: Refusal[];
  /** What the listener reads its identity and its managers from. */
  readonly own: { identity: ChannelIdentity<'agent'>; managers: PinSet<'manager'> };
  /** Paths that the handler was asked for. */
  readonly asked: string[];
  /** Resolves with the next refusal. */
  nextRefusal(): Promise<Refusal>;
}

/** For tests: an agent on loopback that trusts one manager; ends with the test. */
export async function startAgent(
  t: TestContext,
  options: Partial<ListenOptions<'manager'>> & {
    handler?: (request: Http2ServerRequest, response: Http2ServerResponse) => void;
  } = {},
): Promise<TestAgent> {
  const { handler = (_, response) => response.end('served'), ...listen } = options;
  const agent = identityOf('agent');
  const manager = identityOf('manager');
  const own = { identity: agent, managers: manager.asPinSet() };
  const refusals: Refusal[] = [];
  const asked: string[] = [];
  const waiting: ((refusal: Refusal) => void)[] = [];
  const server = createServer(channelServerOptions(), (request, response) => {
    asked.push(request.url);
    handler(request, response);
  });
  const listener = await listenChannel({
    identity: () => own.identity,
    diallers: 'manager',
    trustedPeers: () => own.managers,
    host: '127.0.0.1',
    port: 0,
    server,
    onRefused: (refusal) => {
      refusals.push(refusal);
      waiting.shift()?.(refusal);
    },
    ...listen,
  });
  t.after(() => listener.close(AbortSignal.abort()));
  return {
    agent,
    manager,
    listener,
    own,
    refusals,
    asked,
    target: {
      identity: manager,
      trustedAgentPins: agent.asPinSet(),
      host: '127.0.0.1',
      port: listener.address.port,
    },
    nextRefusal: () => new Promise((resolve) => waiting.push(resolve)),
  };
}

const REQUEST = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0', 'latin1');

/** For tests: a client of no kindness: it writes an HTTP/2 preface at once and keeps every decrypted byte that comes. */
export async function attackPort(
  port: number,
  identity: ChannelIdentity | undefined,
  options: ConnectionOptions,
): Promise<{ bytes: Buffer; error: NodeJS.ErrnoException | undefined }> {
  const socket = connect({
    host: '127.0.0.1',
    port,
    ...(identity === undefined ? {} : { cert: identity.certificatePem, key: identity.privateKeyPem }),
    rejectUnauthorized: false,
    ...options,
  });
  const parts: Buffer[] = [];
  let error: NodeJS.ErrnoException | undefined;
  socket.on('data', (part: Buffer) => parts.push(part));
  socket.on('error', (thrown) => {
    error = thrown;
  });
  socket.write(REQUEST);
  await new Promise((resolve) => socket.once('close', resolve));
  return { bytes: Buffer.concat(parts), error };
}

/** For tests: a clock at which nothing happens until `wake`. */
export class ManualSleep {
  readonly #sleeping = new Set<{ milliseconds: number; wake: () => void }>();
  readonly #arrivals: (() => void)[] = [];

  readonly sleep: Sleep = (milliseconds, signal) =>
    new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(signal.reason);
        return;
      }
      const entry = { milliseconds, wake: resolve };
      this.#sleeping.add(entry);
      signal.addEventListener('abort', () => {
        this.#sleeping.delete(entry);
        reject(signal.reason);
      });
      for (const arrived of this.#arrivals.splice(0)) arrived();
    });

  /** How long those who sleep want to. */
  get waiting(): number[] {
    return [...this.#sleeping].map(({ milliseconds }) => milliseconds);
  }

  /** Lets those pass who sleep for just this long, as soon as there is one. */
  async wake(milliseconds: number): Promise<void> {
    while (!this.waiting.includes(milliseconds))
      await new Promise<void>((resolve) => this.#arrivals.push(resolve));
    for (const entry of [...this.#sleeping]) {
      if (entry.milliseconds !== milliseconds) continue;
      this.#sleeping.delete(entry);
      entry.wake();
    }
  }
}
