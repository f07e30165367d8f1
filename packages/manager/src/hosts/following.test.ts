import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TrustError } from '@virt-trust/base/error.ts';
import { settledState, testHost } from './fixtures.ts';
import { type Following, followUntilSettled, overSessions } from './following.ts';
import type { HostsContext } from './ports.ts';

/** A host whose channel comes up again, or does not; what is reported, and how often it was waited for. */
function hostWhoseChannel(comesBack: boolean) {
  const seen = { waited: 0, reports: [] as string[] };
  const state = { kind: 'connecting' } as never;
  const channel = {
    state,
    async waitUntilUp() {
      seen.waited++;
      if (!comesBack) throw new TrustError('host.channel_down', 'unavailable', 'host kvm1 is away');
    },
  };
  const context = {
    repository: { find: async () => testHost('kvm1') },
    channels: { of: async () => channel },
  } as unknown as Pick<HostsContext, 'repository' | 'channels'>;
  const signal = new AbortController().signal;
  const over = <T>(work: () => Promise<T>) =>
    overSessions(
      { hostName: 'kvm1', channel, context, signal, report: (one) => seen.reports.push(one) },
      work,
    );
  return { seen, over };
}

const lost = (code: string) => new TrustError(code, 'unavailable', 'the channel broke');

test('what a broken channel kept from being answered is done again once the host is back, as often as that takes', async () => {
  const { seen, over } = hostWhoseChannel(true);
  const failures = ['channel.interrupted', 'channel.down', 'channel.not_sent'];
  const answer = await over(async () => {
    const code = failures.shift();
    if (code !== undefined) throw lost(code);
    return 'answer';
  });
  assert.deepEqual([answer, seen.waited], ['answer', 3]);
  assert.equal(seen.reports.length, 3);
  for (const report of seen.reports) assert.match(report, /; dialling again$/);
});

test('what the host itself refuses is not asked again, and a host that stays away ends it', async () => {
  const refusing = hostWhoseChannel(true);
  const refuse = async () => {
    throw lost('apply.failed');
  };
  await assert.rejects(refusing.over(refuse), { code: 'apply.failed' });
  assert.equal(refusing.seen.waited, 0);
  const away = hostWhoseChannel(false);
  const interrupt = async () => {
    throw lost('channel.interrupted');
  };
  await assert.rejects(away.over(interrupt), { code: 'host.channel_down' });
});

test('what a host waits for before a restart is kept where whoever looks at the host sees it, once for each wait', async () => {
  const wait = { what: 'libvirt', why: 'waits for the migration of web', action: '', until: 1 };
  const at = (...pending: object[]) => ({
    ...settledState('none', { credentials: [], pending: pending as never, busy: pending.length > 0 }),
    epoch: '1',
    number: 1,
  });
  const states = [at(wait), at(wait), at()];
  const kept: unknown[] = [];
  const now = () => states[0];
  const agent = {
    call: async (operation: { id: string }) => {
      if (operation.id === 'listEvents') return { events: [], last: 0 };
      if (operation.id === 'getObservedState' && states.length > 1) states.shift();
      return now();
    },
  };
  const context = {
    repository: { find: async () => testHost('kvm1'), findByName: async () => testHost('kvm1') },
    observing: { refresh: async () => void kept.push(now()?.pending.length) },
  };
  await followUntilSettled({
    hostName: 'kvm1',
    desired: { epoch: '1', number: 1, settings: { tls: 'off' } },
    channel: { state: { kind: 'up' }, agent },
    context,
    job: {},
    signal: new AbortController().signal,
    patience: { extend: () => {} },
    report: () => {},
  } as unknown as Following);
  assert.deepEqual(kept, [1, 0]);
});
