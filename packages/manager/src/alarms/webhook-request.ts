import { createHmac } from 'node:crypto';
import { lookup } from 'node:dns';
import { request as httpRequest, type IncomingMessage, STATUS_CODES } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { LookupFunction } from 'node:net';
import { describeError } from '@virt-trust/base/error.ts';
import { type Instant, SECOND } from '@virt-trust/base/instant.ts';
import { assertReceiver, parseReceiver } from './webhook-address.ts';

/** One request to a receiver. */
export interface WebhookRequest {
  readonly url: string;
  readonly secret: string;
  /** The same for each attempt of one delivery. */
  readonly deliveryId: string;
  readonly event: string;
  readonly body: string;
  readonly now: Instant;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** What came of it: taken with any status 2xx. */
export interface WebhookAnswer {
  readonly taken: boolean;
  readonly words: string;
}

/** Of what a receiver answers, nothing but the status is used, and this much is read. */
const MOST_ANSWER = 64 * 1024;

/** `t=SECONDS,v1=HEX`: HMAC-SHA256 over the time, a dot and the body, so that neither can be changed nor sent again later. */
export function signatureOf(secret: string, body: string, now: Instant): string {
  const seconds = Math.floor(now / SECOND);
  return `t=${seconds},v1=${createHmac('sha256', secret).update(`${seconds}.${body}`).digest('hex')}`;
}

/** Sends it once; never throws but for an aborted signal. Redirects are not followed. */
export async function sendWebhook(input: WebhookRequest): Promise<WebhookAnswer> {
  try {
    const response = await exchange(input);
    const status = response.statusCode ?? 0;
    const words = `HTTP ${status} ${STATUS_CODES[status] ?? ''}`.trim();
    if (status >= 300 && status < 400) return { taken: false, words: `${words}; redirects are not followed` };
    return { taken: status >= 200 && status < 300, words };
  } catch (error) {
    input.signal.throwIfAborted();
    return { taken: false, words: describeError(error) };
  }
}

function exchange(input: WebhookRequest): Promise<IncomingMessage> {
  const url = parseReceiver(input.url);
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const body = Buffer.from(input.body);
  const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, {
    method: 'POST',
    agent: false,
    lookup: guardedLookup,
    signal: input.signal,
    headers: {
      'content-type': 'application/json',
      'content-length': body.length,
      'user-agent': 'virt-trust',
      'virt-trust-event': input.event,
      'virt-trust-delivery': input.deliveryId,
      'virt-trust-signature': signatureOf(input.secret, input.body, input.now),
    },
  });
  const timer = setTimeout(
    () => request.destroy(new Error(`no answer within ${input.timeoutMs} ms`)),
    input.timeoutMs,
  );
  request.once('response', (response) => {
    let read = 0;
    const done = () => {
      clearTimeout(timer);
      resolve(response);
      request.destroy();
    };
    // An answer that began is an answer, however the connection ends.
    request.prependListener('error', done);
    response.on('data', (chunk: Buffer) => {
      read += chunk.length;
      if (read > MOST_ANSWER) done();
    });
    // The status is there: however the rest ends, it says whether the delivery was taken.
    response.once('close', done);
    response.on('error', () => {});
  });
  request.on('error', reject);
  request.once('close', () => {
    clearTimeout(timer);
    reject(new Error('the connection was closed without an answer'));
  });
  request.end(body);
  return promise;
}

/** SECURITY: what a name leads to is checked where it is connected to, so that DNS cannot change its mind in between. */
const guardedLookup: LookupFunction = (hostname, options, callback) => {
  lookup(hostname, options, (error, address, family) => {
    if (error !== null) return callback(error, address, family);
    try {
      for (const one of typeof address === 'string' ? [address] : address)
        assertReceiver(typeof one === 'string' ? one : one.address);
    } catch (refused) {
      return callback(refused as NodeJS.ErrnoException, '', 0);
    }
    callback(null, address, family);
  });
};
