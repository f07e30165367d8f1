import type { Alarm } from '@virt-trust/contract/model/alarm.ts';
import type { HostDetail, HostSummary, SettingsRetry } from '@virt-trust/contract/model/host.ts';
import type { UnmanagedHost } from '@virt-trust/contract/model/unmanaged-host.ts';
import { writeAlarm } from './alarm-view.ts';
import { fleetSecurityLines, securityCell, withoutAgent, writeHostSecurity } from './fleet-security.ts';
import { writeEndpoints } from './interface-view.ts';
import { formatTime, writeLine, writeTable } from './output.ts';

/** The hosts as a table. */
export function writeHosts(hosts: readonly HostSummary[], unmanaged: readonly UnmanagedHost[] = []): void {
  writeTable(
    ['name', 'cluster', 'state', 'channel', 'migrates by', 'alarms', 'services', 'next expiry', 'reason'],
    [...hosts.map(rowOf), ...unmanaged.map(unmanagedRowOf)].toSorted(([a = ''], [b = '']) =>
      a < b ? -1 : 1,
    ),
  );
  for (const line of fleetSecurityLines(hosts, unmanaged)) writeLine(line);
}

function rowOf(one: HostSummary): string[] {
  const expiries = one.services.flatMap((service) => (service.notAfter === null ? [] : [service.notAfter]));
  const services = one.services
    .map(({ service, phase }) => (phase === 'settled' ? service : `${service}:${phase}`))
    .join(' ');
  return [
    one.name,
    one.cluster,
    one.state,
    one.channel,
    securityCell(one),
    alarmCounts(one.alarms),
    services || '-',
    formatTime(expiries.length === 0 ? null : Math.min(...expiries)),
    (one.reason ?? one.alarms.first ?? '').slice(0, 80),
  ];
}

/** Of a host without an agent nothing is known but an administrator's word. */
function unmanagedRowOf({ name, cluster, address }: UnmanagedHost): string[] {
  const reason = `no agent; libvirt is taken to be at ${address}`;
  return [name, cluster, 'unmanaged', '-', 'plain', '-', '-', '-', reason];
}

/** A host without an agent: what is known of it, and what it lacks. */
export function writeUnmanagedHost(host: UnmanagedHost): void {
  writeLine(`${host.name}  unmanaged, in cluster ${host.cluster}: it has no agent`);
  writeLine(`  its libvirt is taken to be at ${host.address}, on an administrator's word`);
  writeLine('  can migrate by plain alone, in the clear, where the other host has an agent');
  const { mend } = withoutAgent(host).security;
  writeLine(`  mend it with: ${mend}`);
}

function alarmCounts({ critical, warning }: HostSummary['alarms']): string {
  const counts = [
    ...(critical > 0 ? [`${critical} critical`] : []),
    ...(warning > 0 ? [`${warning} warning`] : []),
  ];
  return counts.join(', ') || '-';
}

/** One host with its services, gates, what is left for a person, and VMs. */
export function writeHost(host: HostDetail, alarms: readonly Alarm[]): void {
  const { inventory } = host;
  writeLine(
    `${host.name}  ${host.state}, in cluster ${host.cluster}, channel to ${host.answersAt ?? host.address} ${host.channel}${host.group === null ? '' : ` (${host.group})`}`,
  );
  if (host.answersAt !== null && host.answersAt !== host.address)
    writeLine(`  nobody with its key answered at ${host.address}, where it is said to be`);
  if (host.reason !== null) writeLine(`  reason: ${host.reason}`);
  writeHostSecurity(host);
  for (const alarm of alarms) writeAlarm(alarm);
  if (inventory !== null) {
    writeLine(
      `  ${inventory.distribution.prettyName}, libvirt ${inventory.libvirt?.version ?? 'none'} (${inventory.libvirt?.daemonMode ?? '-'}), QEMU ${inventory.qemu?.version ?? 'none'}, ${inventory.lsm}, firewall ${inventory.firewall}`,
    );
  }
  writeLine();
  writeEndpoints(host.endpoints);
  if (host.declared.refused.length > 0) {
    const refused = host.declared.refused.map((one) => one.name).join(', ');
    writeLine(`  refused: ${refused}; see why with: virt-trust interface list ${host.name}`);
  }
  writeLine();
  writeTable(
    ['service', 'phase', 'identity', 'serial', 'expires', 'proven by'],
    (host.observed?.credentials ?? []).map((one) => [
      one.service,
      one.phase,
      one.identity,
      one.serialNumber ?? '-',
      formatTime(one.notAfter),
      one.proofs.map((proof) => `${proof.kind} ${proof.target}`).join('; ') || '-',
    ]),
  );
  const gates = host.gates.filter((one) => one.state !== 'not-needed');
  if (gates.length > 0) {
    writeLine();
    writeTable(
      ['gate', 'state', 'blockers'],
      gates.map((one) => [one.gate, one.state, one.blockers.join('; ') || '-']),
    );
  }
  for (const due of host.settingsDue) writeLine(`  not brought there yet: ${due}`);
  if (host.settingsRetry !== null) writeLine(`  ${retryWords(host.settingsRetry, host.channel)}`);
  for (const pending of host.observed?.pending ?? [])
    writeLine(`  left for a person: ${pending.what}: ${pending.why}; ${pending.action}`);
  for (const vm of inventory?.runningVms ?? []) writeLine(`  VM ${vm.name} ${vm.state} (process ${vm.pid})`);
}

function retryWords({ failures, reason, at }: SettingsRetry, channel: HostDetail['channel']): string {
  const times = failures === 1 ? 'once' : `${failures} times`;
  const when = channel === 'up' ? `at ${formatTime(at)}` : 'once its channel is up';
  return `bringing it there failed ${times}, and is tried again ${when}: ${reason}`;
}
