import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TrustError } from '@virt-trust/base/error.ts';
import { testHost } from './fixtures.ts';
import { overSessions } from './following.ts';
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
