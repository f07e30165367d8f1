import { describeError } from '@virt-trust/base/error.ts';
import type { ConnectionState } from '@virt-trust/channel/connection.ts';
import type { HostDetail, HostSummary } from '@virt-trust/contract/model/host.ts';
import { endpointsOf } from './desired-state.ts';
import { gateStates } from './gates.ts';
import type { Host } from './host.ts';
import { securityOf, type TlsSwitch } from './security.ts';

/** The open alarms of a host: how many, and what the first of them says. */
export type HostAlarms = HostSummary['alarms'];

/** A host as the API shows it in lists. */
export function summaryOf(
  host: Host,
  channel: ConnectionState | null,
  alarms: HostAlarms,
  tls: TlsSwitch,
): HostSummary {
  const down = channel?.kind === 'down' ? describeError(channel.reason) : null;
  return {
    id: host.id,
    name: host.name,
    cluster: host.cluster,
    ssh: host.ssh.destination,
    state: host.state,
    channel: channel?.kind === 'up' ? 'up' : 'down',
    reason: host.reason ?? down,
    group: channel?.kind === 'up' ? channel.group : null,
    services: (host.observed?.credentials ?? []).map(({ service, phase, notAfter }) => ({
      service,
      phase,
      notAfter,
    })),
    security: securityOf(host, tls),
    alarms,
  };
}

/** A host with everything that is known of it. */
export function detailOf(
  host: Host,
  fleet: readonly Host[],
  channel: ConnectionState | null,
  alarms: HostAlarms,
  tls: TlsSwitch,
): HostDetail {
  return {
    ...summaryOf(host, channel, alarms, tls),
    address: host.channel.address,
    answersAt: channel?.kind === 'up' ? channel.host : null,
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
    inventory: host.inventory,
    observed: host.observed,
  };
}
