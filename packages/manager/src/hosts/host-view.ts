import type { Instant } from '@virt-trust/base/instant.ts';
import type { ConnectionState } from '@virt-trust/channel/connection.ts';
import type { HostDetail, HostSummary, SettingsRetry } from '@virt-trust/contract/model/host.ts';
import { awayOf } from './away.ts';
import { endpointsOf } from './desired-state.ts';
import { gateStates } from './gates.ts';
import type { Host } from './host.ts';
import { securityOf, shownState, type TlsSwitch } from './security.ts';

/** The open alarms of a host: how many, and what the first of them says. */
export type HostAlarms = HostSummary['alarms'];

/** Its channel, and since when it is away that was there. */
export interface HostPresence {
  readonly channel: ConnectionState | null;
  readonly lostAt: Instant | null;
}

/** A host as the API shows it in lists. */
export function summaryOf(
  host: Host,
  { channel, lostAt }: HostPresence,
  alarms: HostAlarms,
  tls: TlsSwitch,
): HostSummary {
  const down = channel?.kind === 'down' ? awayOf(host, channel, lostAt).why : null;
  const security = securityOf(host, tls);
  const state = shownState(host, security);
  const lack = state === host.state ? null : (security.missing[0] ?? null);
  return {
    id: host.id,
    name: host.name,
    cluster: host.cluster,
    ssh: host.ssh.destination,
    state,
    channel: channel?.kind === 'up' ? 'up' : 'down',
    reason: host.reason ?? down ?? lack,
    group: channel?.kind === 'up' ? channel.group : null,
    services: (host.observed?.credentials ?? []).map(({ service, phase, notAfter }) => ({
      service,
      phase,
      notAfter,
    })),
    security,
    alarms,
  };
}

/** A host with everything that is known of it. */
export function detailOf(
  host: Host,
  fleet: readonly Host[],
  presence: HostPresence,
  alarms: HostAlarms,
  tls: TlsSwitch,
  bringing: { readonly due: readonly string[]; readonly retry: SettingsRetry | null },
): HostDetail {
  return {
    ...summaryOf(host, presence, alarms, tls),
    address: host.channel.address,
    answersAt: presence.channel?.kind === 'up' ? presence.channel.host : null,
    agentPins: [...host.agentPins],
    declared: {
      ...host.declared,
      interfaces: [...host.declared.interfaces],
      refused: [...host.declared.refused],
    },
    endpoints: endpointsOf(host),
    gates: gateStates(
      host,
      fleet.filter((peer) => peer.cluster === host.cluster),
    ),
    settingsDue: [...bringing.due],
    settingsRetry: bringing.due.length === 0 ? null : bringing.retry,
    inventory: host.inventory,
    observed: host.observed,
  };
}
