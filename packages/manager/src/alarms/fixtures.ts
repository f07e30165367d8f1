import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import type { Alarm } from '@virt-trust/contract/model/alarm.ts';
import { Seal } from '../seal/seal.ts';
import { sealKeyOf } from '../seal/seal-key.ts';
import type { Condition } from './condition.ts';

/** Something that is wrong. */
export function testCondition(more: Partial<Condition> = {}): Condition {
  return {
    kind: 'renewal-failed',
    subject: 'vnc of host host-1',
    host: 'host-1',
    severity: 'warning',
    message: 'it failed',
    action: 'virt-trust host provision host-1',
    ...more,
  };
}

/** A seal with the same key each time, in each process. */
export function testSeal(): Seal {
  return new Seal([sealKeyOf(new Uint8Array(32))], systemRandomness);
}

export function testAlarm(n: number): Alarm {
  return {
    id: `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`,
    kind: 'drift',
    severity: 'critical',
    host: 'host-a',
    subject: `thing ${n}`,
    message: 'wrong',
    action: 'mend it',
    state: 'raised',
    raisedAt: 0,
    acknowledgedBy: null,
    clearedAt: null,
    seen: 1,
  };
}

/** What came to a receiver. */
export interface Received {
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

export type Answer = (received: Received, response: ServerResponse) => void;

/** A receiver of webhooks on a port of its own, gone with the test. `next` resolves with each request as it comes. */
export async function webhookReceiver(t: TestContext, answer: Answer) {
  const received: Received[] = [];
  let taken = 0;
  let arrived = Promise.withResolvers<void>();
  let answering = answer;
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const one = { headers: request.headers, body: Buffer.concat(chunks).toString('utf8') };
    received.push(one);
    answering(one, response);
    arrived.resolve();
    arrived = Promise.withResolvers();
  });
  server.on('clientError', (_, socket) => socket.destroy());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/alarms?team=a`,
    received,
    answerWith: (other: Answer) => {
      answering = other;
    },
    next: async (): Promise<Received> => {
      for (;;) {
        const one = received[taken];
        if (one !== undefined) {
          taken += 1;
          return one;
        }
        await arrived.promise;
      }
    },
  };
}
