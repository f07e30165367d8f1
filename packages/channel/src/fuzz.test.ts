import assert from 'node:assert/strict';
import { connect as connectTcp } from 'node:net';
import { test } from 'node:test';
import { connect } from 'node:tls';
import fc from 'fast-check';
import { ALPN_MANAGER_TO_AGENT } from './alpn.ts';
import { dialChannel } from './dial.ts';
import { startAgent, type TestAgent } from './fixtures.ts';

/** A TLS record header before some of the bytes, so that they reach deeper than its first check. */
const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 600 }),
  fc.uint8Array({ minLength: 1, maxLength: 600 }).map((body) => {
    return Uint8Array.of(0x16, 3, 1, body.length >> 8, body.length & 0xff, 1, 0, 0, body.length, ...body);
  }),
);

async function assertAlive(agent: TestAgent): Promise<void> {
  const session = await dialChannel({ ...agent.target, timeoutMs: 60_000 });
  await session.close();
}

test('whatever a stranger sends, the agent serves nothing and goes on', async (t) => {
  const agent = await startAgent(t);
  await fc.assert(
    fc.asyncProperty(bytes, async (data) => {
      const socket = connectTcp(agent.target.port, '127.0.0.1');
      socket.on('error', () => {});
      socket.resume();
      socket.end(data);
      await new Promise((resolve) => socket.once('close', resolve));
    }),
    { numRuns: 100 },
  );
  assert.deepEqual(agent.asked, []);
  await assertAlive(agent);
});

test('whatever a trusted manager sends instead of HTTP/2, the agent goes on', async (t) => {
  const agent = await startAgent(t);
  const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  /** A frame with an honest length and a type that exists more often than not (RFC 9113 §4.1). */
  const frame = fc
    .tuple(fc.nat({ max: 12 }), fc.nat({ max: 255 }), fc.nat({ max: 5 }), fc.uint8Array({ maxLength: 64 }))
    .map(([type, flags, stream, body]) =>
      Buffer.from([0, 0, body.length, type, flags, 0, 0, 0, stream, ...body]),
    );
  const frames = fc.array(frame, { maxLength: 8 }).map((parts) => Buffer.concat([preface, ...parts]));
  await fc.assert(
    fc.asyncProperty(fc.oneof(bytes, frames), async (data) => {
      const socket = connect({
        host: '127.0.0.1',
        port: agent.target.port,
        cert: agent.manager.certificatePem,
        key: agent.manager.privateKeyPem,
        rejectUnauthorized: false,
        ALPNProtocols: [ALPN_MANAGER_TO_AGENT],
      });
      socket.on('error', () => {});
      socket.resume();
      socket.end(data);
      await new Promise((resolve) => socket.once('close', resolve));
    }),
    { numRuns: 100 },
  );
  await assertAlive(agent);
});
