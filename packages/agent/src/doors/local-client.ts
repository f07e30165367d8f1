import { request as httpRequest } from 'node:http';
import { TrustError } from '@virt-trust/base/error.ts';
import { ApiClient, type TransportRequest, type TransportResponse } from '@virt-trust/contract/client.ts';

const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

/** A client of the agent of this host, over its Unix socket; calls throw `agent.not_running` where nobody answers. */
export function localAgentClient(socketPath: string): ApiClient {
  return new ApiClient((request) => send(socketPath, request), `the agent at ${socketPath}`);
}

function send(socketPath: string, given: TransportRequest): Promise<TransportResponse> {
  const { promise, resolve, reject } = Promise.withResolvers<TransportResponse>();
  const { method, path, headers, body, signal } = given;
  const request = httpRequest({
    socketPath,
    method,
    path,
    headers: { ...headers, host: 'localhost', connection: 'close' },
    ...(signal === undefined ? {} : { signal }),
  });
  request.once('error', (cause) => reject(notRunning(socketPath, cause)));
  request.once('response', (response) => {
    const parts: Buffer[] = [];
    let length = 0;
    response.on('data', (part: Buffer) => {
      length += part.length;
      if (length > MAX_ANSWER_BYTES) request.destroy(new Error(`more than ${MAX_ANSWER_BYTES} bytes`));
      else parts.push(part);
    });
    response.once('error', (cause) => reject(notRunning(socketPath, cause)));
    response.once('end', () =>
      resolve({
        status: response.statusCode ?? 0,
        contentType: response.headers['content-type'] ?? '',
        body: Buffer.concat(parts).toString('utf8'),
      }),
    );
  });
  request.end(body);
  return promise;
}

function notRunning(socketPath: string, cause: Error): TrustError {
  const denied = (cause as NodeJS.ErrnoException).code === 'EACCES';
  return new TrustError(
    'agent.not_running',
    denied ? 'denied' : 'unavailable',
    `cannot reach the agent at ${socketPath}`,
    {
      context: { socketPath },
      hint: denied
        ? 'Only root may talk to the agent: use sudo.'
        : 'See how it is with: systemctl status virt-trust-agent.',
      cause,
    },
  );
}
