import { connect, type Socket } from 'node:net';
import { TrustError } from '@virt-trust/base/error.ts';

/** What a load generator sends, and for how long. */
export interface LoadOrder {
  readonly port: number;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Status of every answer; another one ends the run with an error. */
  readonly expectStatus: number;
  /** Connections kept alive, each with one request at a time. */
  readonly connections: number;
  /** JSON where left out; with `base64` the bodies are octets in base64. */
  readonly content?: { readonly type: string; readonly encoding: 'base64' };
  /** `each` makes a connection for each request, for servers that close them. */
  readonly connect?: 'once' | 'each';
  /** Not counted. */
  readonly warmUpSeconds: number;
  readonly seconds: number;
}

export interface LoadResult {
  readonly requests: number;
  readonly seconds: number;
}

/** Where an HTTP/1.1 answer ends and its status, or undefined while it is not whole. */
function readAnswer(bytes: Buffer): { readonly end: number; readonly status: number } | undefined {
  const head = bytes.indexOf('\r\n\r\n');
  if (head < 0) return undefined;
  const text = bytes.toString('latin1', 0, head);
  const status = Number(text.slice(9, 12));
  const length = /\r\ncontent-length: *(\d+)/i.exec(text)?.[1];
  if (length !== undefined) {
    const end = head + 4 + Number(length);
    return bytes.length < end ? undefined : { end, status };
  }
  const last = bytes.indexOf('\r\n0\r\n\r\n', head + 2);
  return last < 0 ? undefined : { end: last + 7, status };
}

/** One request on a connection of its own. */
async function askOnce(order: LoadOrder, request: Buffer): Promise<void> {
  const socket = connect(order.port, '127.0.0.1');
  socket.setNoDelay(true);
  const chunks: Buffer[] = [];
  await new Promise<void>((resolve, reject) => {
    socket.on('error', reject);
    socket.on('connect', () => socket.write(request));
    socket.on('data', (chunk) => {
      chunks.push(chunk as Buffer);
      const answer = readAnswer(chunks.length === 1 ? (chunk as Buffer) : Buffer.concat(chunks));
      if (answer === undefined) return;
      if (answer.status === order.expectStatus) resolve();
      else reject(unexpected(order, Buffer.concat(chunks), answer.status));
    });
    socket.on('close', () => reject(new Error(`port ${order.port} closed the connection`)));
  }).finally(() => socket.destroy());
}

function unexpected(order: LoadOrder, received: Buffer, status: number): TrustError {
  const text = received.toString('utf8').slice(0, 2000);
  const message = `cannot go on: ${order.path} answered ${status}: ${text}`;
  return new TrustError('bench.unexpected_answer', 'failed', message);
}

async function drive(
  order: LoadOrder,
  next: () => Buffer,
  until: () => boolean,
  done: () => void,
): Promise<void> {
  if (order.connect === 'each') {
    while (!until()) {
      await askOnce(order, next());
      done();
    }
    return;
  }
  const socket: Socket = connect(order.port, '127.0.0.1');
  socket.setNoDelay(true);
  await new Promise<void>((resolve, reject) => {
    let received: Buffer = Buffer.alloc(0);
    socket.on('error', reject);
    socket.on('close', () => reject(new Error(`port ${order.port} closed the connection`)));
    socket.on('connect', () => socket.write(next()));
    socket.on('data', (chunk) => {
      const bytes = chunk as Buffer;
      received = received.length === 0 ? bytes : Buffer.concat([received, bytes]);
      const answer = readAnswer(received);
      if (answer === undefined) return;
      if (answer.status !== order.expectStatus) {
        reject(unexpected(order, received, answer.status));
        return;
      }
      received = received.subarray(answer.end);
      done();
      if (until()) resolve();
      else socket.write(next());
    });
  }).finally(() => socket.destroy());
}

/** Sends the bodies round and round over kept-alive connections; counts the answers of the measured time. */
export async function generateLoad(order: LoadOrder, bodies: readonly string[]): Promise<LoadResult> {
  const head = Object.entries({ host: `127.0.0.1:${order.port}`, ...order.headers })
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('');
  // Whole requests are made beforehand: the generator shares the cores with what it measures.
  const { type, encoding } = order.content ?? { type: 'application/json', encoding: 'utf8' };
  const requests = bodies.map((text) => {
    const body = Buffer.from(text, encoding);
    const start = `POST ${order.path} HTTP/1.1\r\n${head}content-type: ${type}\r\n`;
    return Buffer.concat([Buffer.from(`${start}content-length: ${body.length}\r\n\r\n`), body]);
  });
  let index = 0;
  let count = 0;
  let from = 0;
  const start = performance.now();
  const measureFrom = start + order.warmUpSeconds * 1000;
  const end = measureFrom + order.seconds * 1000;
  let now = start;
  await Promise.all(
    Array.from({ length: order.connections }, () =>
      drive(
        order,
        () => requests[index++ % requests.length] as Buffer,
        () => now >= end,
        () => {
          now = performance.now();
          if (now < measureFrom) return;
          if (from === 0) from = now;
          else count++;
        },
      ),
    ),
  );
  return { requests: count, seconds: (now - from) / 1000 };
}
