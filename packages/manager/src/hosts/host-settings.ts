import { parseDuration } from '@virt-trust/base/duration.ts';
import { SECOND } from '@virt-trust/base/instant.ts';
import type { SettingName } from '../settings/definitions.ts';
import type { Settings } from '../settings/settings.ts';
import type { HostSettings } from './ports.ts';

/** Whether hosts have TLS at all. */
export const TLS_ENABLED = 'kvm.libvirtd.tls.enabled';

/** What the setting console.listen asks of a host. */
const CONSOLES = {
  keep: 'keep',
  password: 'with-password',
  certificate: 'with-certificate',
} as const satisfies Record<string, HostSettings['consoles']>;

/** Settings of which something is in a host's configuration, so that a change has to be brought there. */
const IN_DESIRED_SETTINGS: ReadonlySet<SettingName> = new Set([
  TLS_ENABLED,
  'migration.mode',
  'migration.reload_wait',
  'probe.interval_seconds',
  'console.listen',
  'channel.manager_addresses',
]);

/** Whether a change of the setting may change what hosts are to have. */
export function bearsOnHosts(name: SettingName): boolean {
  return IN_DESIRED_SETTINGS.has(name);
}

/** The settings that bear on hosts, effective for one host; `organization` is that of its authority. */
export async function hostSettingsOf(
  host: { readonly name: string; readonly cluster: string },
  organization: string,
  settings: Pick<Settings, 'value'>,
): Promise<HostSettings> {
  const subject = { host: host.name, cluster: host.cluster };
  return {
    organization,
    keyAlgorithm: await settings.value('key.algorithm', subject),
    migrationModes: await settings.value('migration.mode', subject),
    tls: (await settings.value(TLS_ENABLED, subject)) ? 'on' : 'off',
    migrationWaitSeconds: secondsOf(await settings.value('migration.reload_wait', subject)),
    probeSeconds: await settings.value('probe.interval_seconds', subject),
    allowedSkewSeconds: await settings.value('clock.allowed_skew_seconds'),
    managerAddresses: await settings.value('channel.manager_addresses', subject),
    clientCertificateMinutes: await settings.value('migration.client_certificate_minutes', subject),
    consoles: CONSOLES[await settings.value('console.listen', subject)],
  };
}

function secondsOf(duration: string): number {
  return Math.round((parseDuration(duration) ?? 0) / SECOND);
}
