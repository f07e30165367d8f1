import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ComposeDomain, Core } from '../core.ts';
import { jobOf, type Work } from '../jobs/fixtures.ts';
import { eventsOf, type StreamedEvent, temporaryManager } from './fixtures.ts';

const host = { name: 'h1', ssh: { destination: 'root@h1' } };

/** A domain whose `addHost` makes a job of the test's. */
function hosts(work: Work, seen: (core: Core) => void = () => {}): ComposeDomain {
  return async (core) => {
    seen(core);
    const definition = jobOf(work);
    core.jobs.register(definition);
    return {
      handlers: {
        addHost: ({ body, actor, idempotencyKey }) =>
          core.jobs.enqueue(definition, {
            subject: body.name,
            payload: { n: 1 },
            actor: actor.auditName,
            idempotencyKey,
          }),
      },
    };
  };
}

async function events(stream: AsyncIterable<StreamedEvent | { comment: string }>): Promise<StreamedEvent[]> {
  const seen: StreamedEvent[] = [];
  for await (const event of stream) if ('id' in event) seen.push(event);
  return seen;
}

test('HTML §9.2: a job streams its changes until it is over, and the stream ends by itself', async (t) => {
  const go = Promise.withResolvers<void>();
  const { call, url, token } = await temporaryManager(t, [
    hosts(async (_, context) => {
      await context.step('wait', () => go.promise);
      return 'added';
    }),
  ]);
  const made = await call('POST', '/api/v1/hosts', { body: host });
  assert.equal(made.status, 202);
  const stream = eventsOf(url, `/api/v1/jobs/${made.json()['id']}/events`, token);
  const first = await stream.next();
  assert.ok(first.value !== undefined && 'event' in first.value && first.value.event === 'job');
  go.resolve();
  const rest = await events(stream);
  assert.equal(rest.at(-1)?.data['state'], 'done');
  assert.equal(rest.at(-1)?.data['result'], 'added');
  const again = await events(
    eventsOf(url, `/api/v1/jobs/${made.json()['id']}/events`, token, {
      'last-event-id': rest.at(-1)?.id ?? '',
    }),
  );
  assert.deepEqual(again, []);
});

test('a stream of a job that does not exist is a problem document', async (t) => {
  const { call } = await temporaryManager(t);
  const answer = await call('GET', '/api/v1/jobs/00000000-0000-0000-0000-000000000000/events');
  assert.deepEqual([answer.status, answer.problem().code], [404, 'job.unknown']);
});

test('HTML §9.2: Last-Event-ID resumes the events after the one that was seen, without a gap', async (t) => {
  let core: Core | undefined;
  const manager = await temporaryManager(t, [
    hosts(
      async () => '',
      (seen) => (core = seen),
    ),
  ]);
  for (let n = 1; n <= 5; n++) await core?.events.publish({ kind: 'test', subject: 's', message: String(n) });
  const stream = eventsOf(manager.url, '/api/v1/events', manager.token, { 'last-event-id': '2' });
  const seen: string[] = [];
  for await (const event of stream) {
    if (!('id' in event)) continue;
    seen.push(event.id);
    if (seen.length === 3) await core?.events.publish({ kind: 'test', subject: 's', message: 'late' });
    if (seen.length === 4) break;
  }
  assert.deepEqual(seen, ['3', '4', '5', '6']);
  const bad = await manager.call('GET', '/api/v1/events', { headers: { 'last-event-id': 'x' } });
  assert.equal(bad.problem().code, 'request.last_event_id');
});

test('a stream on which nothing happens has a heartbeat, and ends when the manager stops', async (t) => {
  const { url, token, close } = await temporaryManager(t, [], { heartbeatMilliseconds: 5 });
  const stream = eventsOf(url, '/api/v1/events?after=0', token);
  const beat = await stream.next();
  assert.ok(beat.value !== undefined && 'comment' in beat.value);
  const rest = events(stream);
  await close();
  assert.deepEqual(await rest, []);
});

test('a client that goes away ends what was done for it', async (t) => {
  let core: Core | undefined;
  const left = Promise.withResolvers<void>();
  const domain: ComposeDomain = async (seen) => {
    core = seen;
    return {
      handlers: {
        collectHost: async ({ signal }) => {
          signal.addEventListener('abort', () => left.resolve());
          if (signal.aborted) left.resolve();
          await left.promise;
          throw new Error('gone');
        },
      },
    };
  };
  const { url, token } = await temporaryManager(t, [domain]);
  const away = new AbortController();
  const asked = fetch(`${url}/api/v1/hosts/h1/collect`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}` },
    signal: away.signal,
  });
  // Its token was looked at when its last use was kept: from then on the handler runs.
  while ((await core?.tokens.list())?.[0]?.lastUsedAt === null) await new Promise(setImmediate);
  away.abort();
  await assert.rejects(asked);
  await left.promise;
});

test('Idempotency-Key: the same request again answers with the same job; the same key for another is refused', async (t) => {
  let runs = 0;
  const { call } = await temporaryManager(t, [hosts(async () => String(++runs))]);
  const headers = { 'idempotency-key': '"9f6d"' };
  const first = await call('POST', '/api/v1/hosts', { body: host, headers });
  const again = await call('POST', '/api/v1/hosts', { body: host, headers });
  assert.equal(again.status, 202);
  assert.equal(again.json()['id'], first.json()['id']);
  const other = await call('POST', '/api/v1/hosts', { body: { ...host, name: 'h2' }, headers });
  assert.deepEqual([other.status, other.problem().code], [409, 'request.idempotency_key_reused']);
  const bad = await call('POST', '/api/v1/hosts', { body: host, headers: { 'idempotency-key': 'a b' } });
  assert.equal(bad.problem().code, 'request.idempotency_key');
  const fresh = await call('POST', '/api/v1/hosts', { body: host });
  assert.notEqual(fresh.json()['id'], first.json()['id']);
});

test('pages go on where the one before ended, and each job is on one of them', async (t) => {
  const { call } = await temporaryManager(t, [hosts(async () => '')]);
  const made = new Set<unknown>();
  for (let n = 0; n < 7; n++) made.add((await call('POST', '/api/v1/hosts', { body: host })).json()['id']);
  const seen: unknown[] = [];
  let path = '/api/v1/jobs?limit=3';
  const sizes: number[] = [];
  while (path !== '') {
    const page = (await call('GET', path)).json() as { items: { id: string }[]; next: string | null };
    seen.push(...page.items.map(({ id }) => id));
    sizes.push(page.items.length);
    path = page.next === null ? '' : `/api/v1/jobs?limit=3&cursor=${page.next}`;
  }
  assert.deepEqual(sizes, [3, 3, 1]);
  assert.deepEqual(new Set(seen), made);
  assert.equal(seen.length, 7);
});
