import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError } from '@virt-trust/base/error.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { Counter } from '../metrics/metrics.ts';
import type { CrlPublication } from '../status/crl-publication.ts';
import type { OcspReply, OcspResponder } from '../status/ocsp-responder.ts';

/** What answers requests for the status of certificates. */
export interface StatusHttpParts {
  readonly responder: OcspResponder;
  readonly crls: CrlPublication;
  readonly clock: Clock;
  readonly log: Log;
  readonly answers: Counter;
}

/** Answers one request of Node's HTTP server. */
export type StatusHandler = (request: IncomingMessage, response: ServerResponse) => void;

/** SECURITY: more than any request needs, of which one for a certificate takes about a hundred. */
const MAX_REQUEST = 16 * 1024;
/** How long caches may keep an answer, in seconds: a revocation is to be seen soon, whoever stands between. */
const MAX_AGE = 300;
const OCSP_REQUEST = /^application\/ocsp-request[ \t]*(?:;|$)/i;
const OCSP_TYPE = 'application/ocsp-response';

interface Cacheable {
  readonly etag: string;
  readonly modified: number;
  readonly expires: number;
}

type Headers = Record<string, string | number>;

/** RFC 5019 §6.2, RFC 9111 §5: until when caches may keep it; past its end nobody may. */
function cacheHeaders({ etag, modified, expires }: Cacheable, now: number): Headers {
  const age = Math.max(0, Math.min(MAX_AGE, Math.floor((expires - now) / 1000)));
  return {
    'cache-control': `max-age=${age}, public, no-transform, must-revalidate`,
    etag,
    'last-modified': new Date(modified).toUTCString(),
    expires: new Date(Math.min(expires, now + age * 1000)).toUTCString(),
  };
}

/** RFC 9110 §13.1: whether the client has it already. */
function isHeld({ headers }: IncomingMessage, { etag, modified }: Cacheable): boolean {
  const match = headers['if-none-match'];
  if (match !== undefined) {
    const tags = match.split(',').map((tag) => tag.trim().replace(/^W\//, ''));
    return tags.includes('*') || tags.includes(etag);
  }
  const since = Date.parse(headers['if-modified-since'] ?? '');
  return Math.floor(modified / 1000) * 1000 <= since;
}

function send(response: ServerResponse, status: number, headers: Headers, body?: Buffer): void {
  response.writeHead(status, { 'x-content-type-options': 'nosniff', ...headers });
  response.end(body);
}

function sendText(response: ServerResponse, status: number, text: string, headers: Headers = {}): void {
  const body = Buffer.from(`${text}\n`);
  const plain = { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store' };
  send(response, status, { ...plain, ...headers, 'content-length': body.length }, body);
}

function sendCacheable(
  request: IncomingMessage,
  response: ServerResponse,
  file: Cacheable & { readonly type: string; readonly der: Buffer },
  now: number,
): void {
  const headers = cacheHeaders(file, now);
  if (isHeld(request, file)) {
    send(response, 304, headers);
    return;
  }
  const whole = { ...headers, 'content-type': file.type, 'content-length': file.der.length };
  send(response, 200, whole, request.method === 'HEAD' ? undefined : file.der);
}

/** Hands over the whole body, or undefined where it is too long: then the rest is not read. */
function readBody(request: IncomingMessage, then: (body: Buffer | undefined) => void): void {
  const chunks: Buffer[] = [];
  let length = 0;
  request.on('data', (chunk: Buffer) => {
    length += chunk.length;
    if (length <= MAX_REQUEST) chunks.push(chunk);
    else if (length - chunk.length <= MAX_REQUEST) then(undefined);
  });
  request.on('end', () => {
    if (length <= MAX_REQUEST) then(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks));
  });
  // Whoever went away gets no answer.
  request.on('error', () => {});
}

/** RFC 6960 A.1: the base64 of the request, percent-encoded where a client did that; undefined where it is none. */
function decodeGetRequest(encoded: string): Buffer | undefined {
  let text: string;
  try {
    text = decodeURIComponent(encoded);
  } catch {
    return undefined;
  }
  if (text.length > MAX_REQUEST || !/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return undefined;
  return Buffer.from(text, 'base64');
}

/** Etags of answers that are kept, which are asked for again and again. */
const etags = new WeakMap<Buffer, string>();

function etagOf(der: Buffer): string {
  let etag = etags.get(der);
  if (etag === undefined) {
    etag = `"${createHash('sha256').update(der).digest('base64url')}"`;
    etags.set(der, etag);
  }
  return etag;
}

const KIND_LABELS = {
  shared: { kind: 'shared' },
  single: { kind: 'single' },
  error: { kind: 'error' },
} as const;
const CRL_PATH = /^\/crl\/([a-z0-9][a-z0-9-]{0,62})\.crl$/;

/** Serves CRLs at /crl/NAME.crl and OCSP at /ocsp by GET and POST, to anybody (RFC 5280 §4.2.1.13, RFC 6960 A.1). */
export function statusHandler(parts: StatusHttpParts): StatusHandler {
  const { responder, crls, clock, log, answers } = parts;

  const sendReply = (request: IncomingMessage, response: ServerResponse, reply: OcspReply): void => {
    answers.add(KIND_LABELS[reply.kind]);
    if (reply.kind === 'shared' && request.method !== 'POST') {
      const { der, producedAt, nextUpdate } = reply.answer;
      const file = { der, etag: etagOf(der), modified: producedAt, expires: nextUpdate, type: OCSP_TYPE };
      sendCacheable(request, response, file, clock.now());
      return;
    }
    const der = reply.kind === 'shared' ? reply.answer.der : reply.der;
    const headers: Headers = { 'content-type': OCSP_TYPE, 'content-length': der.length };
    if (request.method !== 'POST') headers['cache-control'] = 'no-store';
    response.writeHead(200, headers);
    response.end(request.method === 'HEAD' ? undefined : der);
  };

  const fail = (response: ServerResponse, error: unknown): void => {
    log.debug({}, `cannot answer about a certificate's status: ${describeError(error)}`);
    if (response.headersSent) response.destroy();
    else sendText(response, 500, 'internal error');
  };

  const answerOcsp = (request: IncomingMessage, response: ServerResponse, der: Buffer): void => {
    const reply = responder.respond(der);
    if (reply instanceof Promise) {
      reply.then(
        (made) => sendReply(request, response, made),
        (error: unknown) => fail(response, error),
      );
    } else sendReply(request, response, reply);
  };

  const post = (request: IncomingMessage, response: ServerResponse): void => {
    if (!OCSP_REQUEST.test(request.headers['content-type'] ?? '')) {
      sendText(response, 415, 'send application/ocsp-request', { connection: 'close' });
      return;
    }
    readBody(request, (body) => {
      try {
        if (body !== undefined) answerOcsp(request, response, body);
        else sendText(response, 413, `more than ${MAX_REQUEST} octets`, { connection: 'close' });
      } catch (error) {
        fail(response, error);
      }
    });
  };

  const getCrl = (request: IncomingMessage, response: ServerResponse, name: string): void => {
    if (crls.held) {
      const text = 'this manager was restored, and asks its hosts first what was revoked since the backup';
      sendText(response, 503, text, { 'retry-after': 60 });
      return;
    }
    const file = crls.find(name);
    if (file === undefined) {
      sendText(response, 404, 'no such CRL');
      return;
    }
    const { der, etag, thisUpdate, nextUpdate } = file;
    const sent = { der, etag, modified: thisUpdate, expires: nextUpdate, type: 'application/pkix-crl' };
    sendCacheable(request, response, sent, clock.now());
  };

  const route: StatusHandler = (request, response) => {
    const { url = '', method } = request;
    const query = url.indexOf('?');
    const path = query === -1 ? url : url.slice(0, query);
    if (method === 'POST' && (path === '/ocsp' || path === '/ocsp/')) {
      post(request, response);
      return;
    }
    const crl = CRL_PATH.exec(path)?.[1];
    const ocsp = path.startsWith('/ocsp/') ? path.slice('/ocsp/'.length) : undefined;
    if (crl === undefined && ocsp === undefined && path !== '/ocsp') {
      sendText(response, 404, 'there is nothing at this path');
    } else if ((method !== 'GET' && method !== 'HEAD') || path === '/ocsp') {
      const allow = crl === undefined ? 'GET, HEAD, POST' : 'GET, HEAD';
      sendText(response, 405, `use ${allow}`, { allow, connection: 'close' });
    } else if (crl !== undefined) getCrl(request, response, crl);
    // What is not even base64 is malformed as well: the responder says so.
    else answerOcsp(request, response, decodeGetRequest(ocsp ?? '') ?? Buffer.alloc(0));
  };

  return (request, response) => {
    try {
      route(request, response);
    } catch (error) {
      fail(response, error);
    }
  };
}
