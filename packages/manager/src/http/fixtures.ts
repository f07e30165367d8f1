import { request } from 'node:http';
import { connect } from 'node:net';
import type { TestContext } from 'node:test';
import { silentLog } from '@virt-trust/base/log.ts';
import { Problem } from '@virt-trust/contract/problem.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import type { ComposeDomain } from '../core.ts';
import { type ManagerOptions, type RunningManager, startManager } from '../manager.ts';
import { temporaryDirectory } from '../store/fixtures.ts';

/** A manager on a port of its own with the first administrator's token; closed with the test. */
export async function temporaryManager(
  t: TestContext,
  domains: readonly ComposeDomain[] = [],
  options: Partial<ManagerOptions> = {},
): Promise<RunningManager & { token: string; call: Caller; stateDirectory: string }> {
  const stateDirectory = options.stateDirectory ?? temporaryDirectory(t);
  const manager = await startManager(
    {
      stateDirectory,
      version: '0.1.0',
      listen: { address: '127.0.0.1', port: 0 },
      log: silentLog,
      ...options,
    },
    domains,
  );
  t.after(() => manager.close());
  const token = manager.initialToken ?? '';
  return { ...manager, token, stateDirectory, call: callerOf(manager.url, token) };
}

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly json: () => Record<string, unknown>;
  /** The problem document, checked against the contract. */
  readonly problem: () => Problem;
}

export type Caller = (
  method: string,
  path: string,
  options?: { body?: unknown; token?: string; headers?: Record<string, string> },
) => Promise<Answer>;

function callerOf(url: string, ownToken: string): Caller {
  return async (method, path, { body, token = ownToken, headers = {} } = {}) => {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: {
        ...(token === '' ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      text,
      json: () => JSON.parse(text) as Record<string, unknown>,
      problem: () => {
        if (!response.headers.get('content-type')?.startsWith('application/problem+json')) {
          throw new Error(`not a problem document: ${response.headers.get('content-type')}`);
        }
        return validatorOf(Problem)(JSON.parse(text), 'problem');
      },
    };
  };
}

/** What comes back for bytes sent as they are, until the other side closes. */
export async function sendRaw(url: string, bytes: string | Uint8Array): Promise<string> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => {});
  socket.write(bytes);
  let answer = '';
  try {
    for await (const chunk of socket) answer += String(chunk);
  } catch {
    // Reset after the answer: what came until then counts.
  }
  return answer;
}

/** The status of a GET with a Host of one's own, which fetch does not allow. */
export async function statusWithHost(url: string, host: string): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  request(`${url}/healthz`, { headers: { host } }, (response) => {
    response.resume();
    resolve(response.statusCode ?? 0);
  })
    .on('error', reject)
    .end();
  return promise;
}

export interface StreamedEvent {
  readonly id: string;
  readonly event: string;
  readonly data: Record<string, unknown>;
}

/** A stream of server-sent events; heartbeats and other comments come as `comment`. */
export async function* eventsOf(
  url: string,
  path: string,
  token: string,
  headers: Record<string, string> = {},
): AsyncGenerator<StreamedEvent | { comment: string }> {
  const response = await fetch(`${url}${path}`, {
    headers: { authorization: `Bearer ${token}`, ...headers },
  });
  if (response.status !== 200 || response.body === null) throw new Error(`status ${response.status}`);
  let buffer = '';
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    buffer += chunk;
    for (let end = buffer.indexOf('\n\n'); end >= 0; end = buffer.indexOf('\n\n')) {
      const frame = buffer.slice(0, end);
      buffer = buffer.slice(end + 2);
      if (frame.startsWith(':')) yield { comment: frame.slice(1) };
      const [, id, event, data] = /^id: (.*)\nevent: (.*)\ndata: (.*)$/.exec(frame) ?? [];
      if (id !== undefined && event !== undefined && data !== undefined) {
        yield { id, event, data: JSON.parse(data) as Record<string, unknown> };
      }
    }
  }
}
