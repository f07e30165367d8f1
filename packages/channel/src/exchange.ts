import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  constants,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
  type OutgoingHttpHeaders,
} from 'node:http2';
import { TrustError } from '@virt-trust/base/error.ts';

export interface ChannelRequest {
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: Uint8Array | string;
  readonly signal?: AbortSignal;
}

export interface ChannelResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/**
 * A response whose body is still coming; destroying the body cancels the request. The body also ends where the
 * connection is cut, so what it carries must tell by itself where it is whole, as events do.
 */
export interface ChannelStream {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: ClientHttp2Stream;
}

/**
 * Sends a request and resolves with the head of the response. Throws `channel.not_sent` where the agent has
 * certainly not seen it (RFC 9113 §8.7), `channel.interrupted` where it may have, or the signal's own reason.
 */
export async function openStream(
  session: ClientHttp2Session,
  request: ChannelRequest,
): Promise<ChannelStream> {
  const { signal } = request;
  signal?.throwIfAborted();
  const stream = startStream(session, request);
  const { promise, resolve, reject } = Promise.withResolvers<ChannelStream>();
  let cause: Error | undefined;
  const onAbort = () => stream.close(constants.NGHTTP2_CANCEL);
  signal?.addEventListener('abort', onAbort, { once: true });
  stream.once('response', (headers: IncomingHttpHeaders & IncomingHttpStatusHeader) => {
    resolve({ status: headers[':status'] ?? 0, headers, body: stream });
  });
  stream.on('error', (error) => {
    cause = error;
  });
  stream.once('close', () => {
    signal?.removeEventListener('abort', onAbort);
    reject(signal?.aborted ? signal.reason : broken(stream, request, cause));
  });
  stream.end(request.body);
  return await promise;
}

/** The whole response; throws `channel.body_too_large` beyond `maxBodyBytes`, and as `openStream` does. */
export async function exchange(
  session: ClientHttp2Session,
  request: ChannelRequest,
  maxBodyBytes: number,
): Promise<ChannelResponse> {
  const { status, headers, body: stream } = await openStream(session, request);
  const announced = request.method === 'HEAD' ? undefined : headers['content-length'];
  // A cut connection ends a body just as END_STREAM does; only the announced length or the living session tell.
  const isWhole = (length: number) =>
    announced === undefined ? !session.destroyed : length === Number(announced);
  return { status, headers, body: await readBody(stream, request, maxBodyBytes, isWhole) };
}

function readBody(
  stream: ClientHttp2Stream,
  request: ChannelRequest,
  maxBytes: number,
  isWhole: (length: number) => boolean,
): Promise<Buffer> {
  const { signal } = request;
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    let length = 0;
    let ended = false;
    let cause: Error | undefined;
    stream.on('data', (part: Buffer) => {
      length += part.length;
      if (length <= maxBytes) {
        parts.push(part);
      } else {
        parts.length = 0;
        cause = tooLarge(request, maxBytes);
        stream.close(constants.NGHTTP2_CANCEL);
      }
    });
    stream.once('end', () => {
      ended = isWhole(length);
    });
    stream.on('error', (error) => {
      cause ??= error;
    });
    stream.once('close', () => {
      // A reset stream may emit 'end' too: only both together mean that the body is whole.
      if (ended && stream.rstCode === constants.NGHTTP2_NO_ERROR) {
        resolve(Buffer.concat(parts));
      } else if (cause instanceof TrustError) {
        reject(cause);
      } else {
        reject(signal?.aborted ? signal.reason : interrupted(request, cause));
      }
    });
  });
}

function startStream(session: ClientHttp2Session, request: ChannelRequest): ClientHttp2Stream {
  const { method, path, headers = {}, body } = request;
  try {
    return session.request(
      { ...headers, ':method': method, ':path': path },
      { endStream: body === undefined || body.length === 0 },
    );
  } catch (cause) {
    if (session.closed || session.destroyed) throw notSent(request, cause);
    throw new TrustError('channel.request_malformed', 'invalid', `cannot send ${describe(request)}`, {
      cause,
    });
  }
}

function broken(stream: ClientHttp2Stream, request: ChannelRequest, cause: Error | undefined): TrustError {
  // RFC 9113 §8.7: a stream that never got its number, or was refused, was not processed; GOAWAY refuses those
  // above its last stream (§6.8).
  const unseen = stream.id === undefined || stream.rstCode === constants.NGHTTP2_REFUSED_STREAM;
  return unseen ? notSent(request, cause) : interrupted(request, cause);
}

function notSent(request: ChannelRequest, cause: unknown): TrustError {
  return new TrustError(
    'channel.not_sent',
    'unavailable',
    `cannot send ${describe(request)}: the session ended`,
    {
      cause,
    },
  );
}

function interrupted(request: ChannelRequest, cause: unknown): TrustError {
  return new TrustError(
    'channel.interrupted',
    'unavailable',
    `cannot finish ${describe(request)}: the channel broke while it was running`,
    { cause, hint: 'The agent may have done it all the same; ask for its state before trying again.' },
  );
}

function tooLarge(request: ChannelRequest, maxBytes: number): TrustError {
  return new TrustError(
    'channel.body_too_large',
    'failed',
    `cannot read the answer to ${describe(request)}: more than ${maxBytes} bytes`,
  );
}

function describe({ method, path }: ChannelRequest): string {
  return JSON.stringify(`${method} ${path.slice(0, 200)}`);
}
