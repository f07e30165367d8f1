import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isTrustError } from '@virt-trust/base/error.ts';
import { SECOND } from '@virt-trust/base/instant.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import type { Sleep } from '@virt-trust/channel/sleep.ts';
import type { Alarm } from '@virt-trust/contract/model/alarm.ts';
import { makeTestCertificate } from '@virt-trust/libvirt/test-certificates.ts';
import { settableClock, temporaryDirectory, temporaryStore } from '../store/fixtures.ts';
import { openStore } from '../store/open-store.ts';
import { enqueueDelivery, MOST_WAITING } from '../store/webhook-outbox.ts';
import { SqliteWebhookStore } from '../store/webhook-store.ts';
import { testAlarm, testSeal, webhookReceiver } from './fixtures.ts';
import { assertReceiver, parseReceiver } from './webhook-address.ts';
import { sendWebhook, signatureOf } from './webhook-request.ts';
import { WebhookSender } from './webhook-sender.ts';

const SECRET = 'a secret of the receiver';
const AUDIT = { actor: 'a', action: 'webhook.put', subject: 'u', outcome: 'done', detail: '' } as const;

const REQUEST = {
  secret: SECRET,
  deliveryId: 'd',
  event: 'e',
  body: '{}',
  now: settableClock().now(),
  timeoutMs: 60_000,
  signal: new AbortController().signal,
};

/** A sender whose pauses the test ends: `paused` resolves with each. */
function senderOn(t: TestContext, store: SqliteWebhookStore, more: { timeoutMs?: number } = {}) {
  const stop = new AbortController();
  const pauses: { ms: number; end: () => void }[] = [];
  let arrived = Promise.withResolvers<void>();
  const sleep: Sleep = (ms, signal) => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    pauses.push({ ms, end: resolve });
    arrived.resolve();
    arrived = Promise.withResolvers();
    return promise;
  };
  const clock = settableClock();
  const sender = new WebhookSender({
    store,
    clock,
    randomness: systemRandomness,
    log: silentLog,
    signal: stop.signal,
    sleep,
    ...more,
  });
  const close = async () => {
    stop.abort();
    await sender.stop();
  };
  t.after(close);
  sender.start();
  return {
    sender,
    clock,
    close,
    paused: async () => {
      while (pauses.length === 0) await arrived.promise;
      return pauses.shift() ?? { ms: 0, end: () => {} };
    },
  };
}

/** A webhook with its outbox on a store. */
async function outbox(t: TestContext, url: string) {
  const clock = settableClock();
  const { database } = temporaryStore(t, clock);
  const store = new SqliteWebhookStore(database, clock, testSeal());
  await store.put(url, SECRET, AUDIT);
  const enqueue = (...numbers: number[]) => {
    for (const n of numbers)
      database.transaction(() => enqueueDelivery(database, 'alarm.raised', testAlarm(n), clock.now()));
  };
  return { store, database, enqueue };
}

const subjectOf = ({ body }: { body: string }) => (JSON.parse(body) as { alarm: Alarm }).alarm.subject;

test('a delivery is JSON with an id and a signature over time and body that the receiver can check', async (t) => {
  const receiver = await webhookReceiver(t, (_, response) => response.writeHead(204).end());
  const { store, enqueue } = await outbox(t, receiver.url);
  enqueue(1);
  const { clock, sender } = senderOn(t, store);
  const { headers, body } = await receiver.next();
  const document = JSON.parse(body) as Record<string, unknown>;
  assert.deepEqual([document['event'], document['id']], ['alarm.raised', headers['virt-trust-delivery']]);
  assert.deepEqual(document['alarm'], testAlarm(1));
  assert.equal(headers['content-type'], 'application/json');
  const [, seconds, mac] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(headers['virt-trust-signature'])) ?? [];
  assert.equal(Number(seconds), Math.floor(clock.now() / SECOND));
  assert.equal(mac, createHmac('sha256', SECRET).update(`${seconds}.${body}`).digest('hex'));
  enqueue(2);
  sender.wake();
  assert.equal(subjectOf(await receiver.next()), 'thing 2');
});

test('what is not taken is sent again, later and later, under the same id, and what comes after it waits', async (t) => {
  const receiver = await webhookReceiver(t, (_, response) => response.writeHead(500).end('no'));
  const { store, enqueue } = await outbox(t, receiver.url);
  enqueue(1, 2);
  const { paused } = senderOn(t, store);
  const ids = new Set<unknown>();
  let longest = 0;
  for (let attempt = 0; attempt < 12; attempt++) {
    const { headers, body } = await receiver.next();
    assert.equal(subjectOf({ body }), 'thing 1');
    ids.add(headers['virt-trust-delivery']);
    const { ms, end } = await paused();
    assert.ok(ms <= 300 * SECOND * 1.5, 'there is a longest pause');
    longest = Math.max(longest, ms);
    end();
  }
  assert.equal(ids.size, 1);
  assert.ok(longest >= 150 * SECOND);
  const failed = await store.get();
  assert.deepEqual([failed?.waiting, failed?.lastFailure], [2, 'HTTP 500 Internal Server Error']);
  await receiver.next();
  receiver.answerWith((_, response) => response.writeHead(200).end());
  (await paused()).end();
  assert.deepEqual(
    [subjectOf(await receiver.next()), subjectOf(await receiver.next())],
    ['thing 1', 'thing 2'],
  );
});

test('a receiver that redirects, hangs, closes, floods or is not there has not taken it, or has by its status', async (t) => {
  const send = (url: string, timeoutMs = REQUEST.timeoutMs) => sendWebhook({ ...REQUEST, url, timeoutMs });
  const receiver = await webhookReceiver(t, (_, response) => response.end());
  const answers = async (answer: Parameters<typeof receiver.answerWith>[0], timeoutMs?: number) => {
    receiver.answerWith(answer);
    return send(receiver.url, timeoutMs);
  };
  const redirect = await answers((_, response) => response.writeHead(307, { location: receiver.url }).end());
  assert.deepEqual(redirect, {
    taken: false,
    words: 'HTTP 307 Temporary Redirect; redirects are not followed',
  });
  assert.equal(receiver.received.length, 1);
  assert.match((await answers(() => {}, 300)).words, /no answer within 300 ms/);
  assert.equal((await answers((_, response) => response.destroy())).taken, false);
  const flood = await answers((_, response) => {
    response.writeHead(200);
    const chunk = Buffer.alloc(1 << 16);
    const more = (): void => {
      while (!response.destroyed && response.write(chunk));
      if (!response.destroyed) response.once('drain', more);
    };
    more();
  });
  assert.deepEqual(flood, { taken: true, words: 'HTTP 200 OK' });
  // Its status must have come by then.
  const hanging = await answers((_, response) => response.writeHead(202).write('and'), 5_000);
  assert.deepEqual(hanging, { taken: true, words: 'HTTP 202 Accepted' });
  assert.match((await send('http://127.0.0.1:1/')).words, /ECONNREFUSED/);
  assert.match((await send('https://does-not-exist.invalid/')).words, /ENOTFOUND|EAI_AGAIN/);
});

test('over https a receiver that nobody vouches for gets nothing', async (t) => {
  const { pem, keyPem } = await makeTestCertificate({ subject: 'CN=localhost' });
  let asked = 0;
  const server = createServer({ cert: pem, key: keyPem }, () => {
    asked += 1;
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const answer = await sendWebhook({ ...REQUEST, url: `https://localhost:${port}/` });
  assert.equal(answer.taken, false);
  assert.match(answer.words, /self-signed certificate/);
  assert.equal(asked, 0);
});

test('SECURITY: link-local, metadata and multicast addresses receive nothing, however they are written', async () => {
  for (const url of [
    'http://169.254.169.254/latest/meta-data',
    'http://[fe80::1]/',
    'http://[::ffff:169.254.169.254]/',
    'http://[fd00:ec2::254]/',
    'http://2852039166/',
    'http://0xa9.0xfe.0xa9.0xfe/',
    'http://100.100.100.200/',
    'http://0.0.0.0/',
    'http://[::]/',
    'http://239.0.0.1/',
    'http://user:secret@192.0.2.1/',
    'ftp://192.0.2.1/',
    'file:///etc/passwd',
    'http://',
  ])
    assert.throws(() => parseReceiver(url), isTrustError, url);
  for (const url of [
    'http://127.0.0.1:8080/',
    'https://[2001:db8::1]/x',
    'https://alarms.example.org/?team=1',
  ])
    assert.equal(parseReceiver(url).href, url);
  assert.throws(() => assertReceiver('fe80::1'), { code: 'webhook.address' });
});

test('the outbox is bounded: the oldest go, and are counted', async (t) => {
  const { store, database, enqueue } = await outbox(t, 'http://127.0.0.1:1/');
  database.transaction(() => {
    for (let n = 0; n < MOST_WAITING; n++) enqueue(n);
  });
  enqueue(MOST_WAITING, MOST_WAITING + 1);
  const shown = await store.get();
  assert.deepEqual([shown?.waiting, shown?.dropped], [MOST_WAITING, 2]);
  assert.equal(subjectOf((await store.first()) ?? { body: '' }), 'thing 2');
});

test('without a webhook nothing is kept, and one that is taken away takes along what waited', async (t) => {
  const { store, database, enqueue } = await outbox(t, 'http://127.0.0.1:1/');
  enqueue(1);
  await store.delete(AUDIT);
  enqueue(2);
  assert.equal(await store.get(), null);
  assert.deepEqual(database.all('select * from webhook_deliveries'), []);
});

test('a webhook that is set anew is tried at once, with its own secret', async (t) => {
  const refusing = await webhookReceiver(t, (_, response) => response.writeHead(403).end());
  const taking = await webhookReceiver(t, (_, response) => response.end());
  const { store, enqueue } = await outbox(t, refusing.url);
  enqueue(1);
  const { sender, paused } = senderOn(t, store);
  await paused();
  await store.put(taking.url, 'another secret of a receiver', AUDIT);
  sender.reset();
  const { headers, body } = await taking.next();
  assert.equal(subjectOf({ body }), 'thing 1');
  const now = settableClock().now();
  assert.equal(headers['virt-trust-signature'], signatureOf('another secret of a receiver', body, now));
});

test('a manager that is killed after the receiver took it sends it again under the same id, and loses nothing', async (t) => {
  const receiver = await webhookReceiver(t, () => {});
  const directory = temporaryDirectory(t);
  const child = spawn(
    process.execPath,
    [fileURLToPath(new URL('crash-webhook.ts', import.meta.url)), directory, receiver.url],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  const first = await receiver.next();
  child.kill('SIGKILL');
  await once(child, 'close');
  receiver.answerWith((_, response) => response.end());
  const clock = settableClock();
  const { database, close } = openStore(directory, clock);
  t.after(close);
  const { close: stop } = senderOn(t, new SqliteWebhookStore(database, clock, testSeal()));
  const [again, next] = [await receiver.next(), await receiver.next()];
  assert.equal(again.headers['virt-trust-delivery'], first.headers['virt-trust-delivery']);
  assert.deepEqual([subjectOf(again), subjectOf(next)], ['thing 1', 'thing 2']);
  await stop();
});
