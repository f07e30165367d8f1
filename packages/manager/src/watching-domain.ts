import type { HostId } from '@virt-trust/base/host-id.ts';
import type { ConnectionState } from '@virt-trust/channel/connection.ts';
import { getStatus } from '@virt-trust/contract/agent/operations.ts';
import type { Core } from './core.ts';
import { OutsideLooks } from './hosts/outside-looks.ts';
import type { HostsContext } from './hosts/ports.ts';
import { Watching } from './hosts/watching.ts';
import { SqliteWatchStore } from './store/watch-store.ts';

/** What keeps an eye on hosts that nobody works on. */
export interface WatchingDomain {
  readonly outside: OutsideLooks;
  /** The host was greeted on a channel that came up. */
  greeted(id: HostId): void;
  channel(id: HostId, state: ConnectionState): void;
  start(): Promise<void>;
}

/** Follows the agents' events, and looks at hosts from outside. */
export function composeWatching(
  core: Core,
  context: HostsContext,
  onLooked: (id: HostId) => void,
): WatchingDomain {
  const { clock, randomness, log, signal } = core;
  const { repository, channels, observing, certificates } = context;
  const watching = new Watching({
    repository,
    channels,
    observing,
    store: new SqliteWatchStore(core.database, clock, () => core.events.wake()),
    randomness,
    log,
    signal,
  });
  const outside = new OutsideLooks({
    repository,
    trustFor: async (host) =>
      [
        await certificates.bundle('control'),
        // What was found is trusted too while it is served, or its CA kept.
        ...(host.inventory?.tlsFiles ?? [])
          .filter((file) => file.role === 'ca' && file.service === 'libvirt')
          .map((file) => file.pem ?? ''),
      ].join('\n'),
    client: () => certificates.ownClient(),
    intervalOf: (host) =>
      core.settings.value('probe.interval_seconds', { host: host.name, cluster: host.cluster }),
    isUp: (id) => channels.stateOf(id)?.kind === 'up',
    agentAnswers: async (host, signal) => {
      if (channels.stateOf(host.id)?.kind !== 'up') return false;
      return (await channels.of(host)).agent.call(getStatus, {}, { signal }).then(
        () => true,
        () => false,
      );
    },
    onChange: onLooked,
    clock,
    randomness,
    log,
    signal,
  });
  repository.onChange((id) => {
    watching.written(id);
    outside.written(id);
  });
  return {
    outside,
    greeted(id) {
      if (channels.stateOf(id)?.kind !== 'up') return;
      watching.up(id);
      outside.up(id);
    },
    channel(id, state) {
      if (state.kind === 'down' || state.kind === 'closed') watching.down(id);
    },
    async start() {
      for (const id of await repository.ids()) outside.written(id);
    },
  };
}
