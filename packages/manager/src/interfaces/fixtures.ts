import { INTERFACE_ROLES, type InterfaceRole } from '@virt-trust/contract/model/interface.ts';
import type { InterfaceSettings, RoleSetting } from './interface-settings.ts';

/** Settings that give roles by these entries, each set globally. */
export function roleSettings(
  entries: Partial<Record<InterfaceRole, readonly string[]>>,
  more: Partial<Omit<InterfaceSettings, 'roles'>> = {},
): InterfaceSettings {
  const roles = INTERFACE_ROLES.map((role): [InterfaceRole, RoleSetting] => [
    role,
    { entries: entries[role] ?? [], from: `setting role.${role} (global)` },
  ]);
  return {
    roles: Object.fromEntries(roles) as Record<InterfaceRole, RoleSetting>,
    allowedSubnets: [],
    allowedDomains: [],
    ...more,
  };
}

export const NO_ROLE_SETTINGS: InterfaceSettings = roleSettings({});
