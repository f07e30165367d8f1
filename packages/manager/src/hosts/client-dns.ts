/** Common names of the short-lived libvirt clients that virt-trust makes. */
const MANAGER_CLIENT_NAME = 'virt-trust manager';
export const MIGRATION_CLIENT_PREFIX = 'virt-trust migration ';

/** Globs for `tls_allowed_dn_list` that let exactly those clients in, over the DN as libvirt's GnuTLS prints it. */
export function clientDnGlobs(organization: string): string[] {
  return [
    `O=${organization},CN=${MANAGER_CLIENT_NAME}`,
    `O=${organization},CN=${MIGRATION_CLIENT_PREFIX}*`,
    `CN=${MANAGER_CLIENT_NAME},O=${organization}`,
    `CN=${MIGRATION_CLIENT_PREFIX}*,O=${organization}`,
  ];
}
