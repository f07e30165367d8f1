import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { ApiClient, type Transport } from '@virt-trust/contract/client.ts';
import { errorOfProblem, Problem } from '@virt-trust/contract/problem.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import { type Credentials, readCredentials } from './credentials.ts';

const MAX_ANSWER = 64 * 1024 * 1024;

/** The typed client of the manager's API, and its event streams. */
export interface ManagerClient extends Pick<ApiClient, 'call'> {
  /** Server-sent events of a path, as their data. */
  events(path: string, signal: AbortSignal): AsyncIterable<unknown>;
}

/** Asks the manager that the credentials name. */
export function managerClient(credentials: Credentials = readCredentials()): ManagerClient {
  const api = new ApiClient(httpTransport(credentials), `the manager at ${credentials.url}`);
  return {
    call: (operation, input, options) => api.call(operation, input, options),
    events: (path, signal) => readEvents(credentials, path, signal),
  };
}

async function send(credentials: Credentials, path: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(new URL(path, credentials.url), {
      ...init,
      redirect: 'error',
      headers: { ...(init.headers as Record<string, string>), authorization: `Bearer ${credentials.token}` },
    });
  } catch (cause) {
    if (init.signal?.aborted === true) throw init.signal.reason;
    throw new TrustError(
      'cli.manager_away',
      'unavailable',
      // The error of fetch itself says only that it failed.
      `cannot reach the manager at ${credentials.url}: ${describeError((cause as Error).cause ?? cause)}`,
      { cause, hint: hintOf(cause) },
    );
  }
}

function hintOf(failure: unknown): string {
  const { cause } = failure as { cause?: { code?: unknown } };
  if (/CERT|SIGNATURE/.test(String(cause?.code)))
    return 'trust the authority of its certificate: NODE_EXTRA_CA_CERTS=FILE.pem virt-trust ...';
  return 'see that it runs (virt-trust serve, or npm start in a checkout), or name another with VIRT_TRUST_URL';
}

function httpTransport(credentials: Credentials): Transport {
  return async ({ method, path, headers, body, signal }) => {
    const response = await send(credentials, path, {
      method,
      headers,
      ...(body === undefined ? {} : { body }),
      ...(signal === undefined ? {} : { signal }),
    });
    const text = await response.text();
    if (text.length > MAX_ANSWER)
      throw new TrustError(
        'api.too_large',
        'failed',
        `cannot use the answer of the manager: over ${MAX_ANSWER} bytes`,
      );
    return { status: response.status, contentType: response.headers.get('content-type') ?? '', body: text };
  };
}

async function* readEvents(
  credentials: Credentials,
  path: string,
  signal: AbortSignal,
): AsyncIterable<unknown> {
  const response = await send(credentials, path, { headers: { accept: 'text/event-stream' }, signal });
  if (!response.ok) throw errorOfProblem(validatorOf(Problem)(await response.json(), 'problem document'));
  let buffered = '';
  for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    buffered += chunk;
    const blocks = buffered.split('\n\n');
    buffered = blocks.pop() ?? '';
    for (const block of blocks) {
      const data = block
        .split('\n')
        .filter((line) => line.startsWith('data:'))
        .map((line) => line.slice(5).trimStart())
        .join('\n');
      if (data !== '') yield JSON.parse(data);
    }
  }
}
