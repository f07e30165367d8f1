import type { InterfaceRole } from '@virt-trust/contract/model/interface.ts';
import type { SettingName } from '../settings/definitions.ts';
import type { Settings } from '../settings/settings.ts';

/** The settings that bear on a host's interfaces, effective for that host. */
export interface InterfaceSettings {
  readonly roles: Readonly<Record<InterfaceRole, RoleSetting>>;
  readonly allowedSubnets: readonly string[];
  readonly allowedDomains: readonly string[];
}

/** Which interfaces have a role: globs and subnets, and which setting says so, `setting role.display (cluster rack1)`. */
export interface RoleSetting {
  readonly entries: readonly string[];
  readonly from: string;
}

/** True for a setting that changes what hosts are declared with. */
export function bearsOnInterfaces(name: SettingName): boolean {
  return /^(?:role|interface)\./.test(name);
}

/** Reads them. */
export async function interfaceSettingsOf(
  settings: Pick<Settings, 'value' | 'explain'>,
  host: { readonly name: string; readonly cluster: string },
): Promise<InterfaceSettings> {
  const subject = { host: host.name, cluster: host.cluster };
  const of = async (role: InterfaceRole): Promise<RoleSetting> => {
    const name = `role.${role}` as const;
    const { from } = await settings.explain(name, subject);
    const place =
      from === 'host' ? `host ${host.name}` : from === 'cluster' ? `cluster ${host.cluster}` : from;
    return { entries: await settings.value(name, subject), from: `setting ${name} (${place})` };
  };
  return {
    roles: {
      management: await of('management'),
      migration: await of('migration'),
      display: await of('display'),
      storage: await of('storage'),
    },
    allowedSubnets: await settings.value('interface.allowed_subnets', subject),
    allowedDomains: await settings.value('interface.allowed_domains', subject),
  };
}
