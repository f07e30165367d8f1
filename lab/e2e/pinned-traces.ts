import type { Host } from '../src/host.ts';

/** Where a migration in mode `pinned` has things while it runs. */
const LOOK = `
find /run/virt-trust/migrations /run/libvirt/qemu -mindepth 1 \\( -path '*/virt-trust-*' -o -path '/run/virt-trust/migrations/*' \\) 2>/dev/null
ss -Hltn | awk '{ print $4 }' | grep -E ':(16518|165[2-7][0-9]|1658[0-3])$'
ss -Hlxn | grep -o '[^ ]*tunnelmigrate[^ ]*'
systemctl list-units --all --plain --no-legend 'virt-trust-relay-*' 'virt-trust-migration-*' | awk '{ print $1 }'
grep -oE '"(relay|grant)-[0-9a-f-]+"' /var/lib/virt-trust/agent/firewall.json
nft list ruleset 2>/dev/null | grep -oE 'virt-trust:(relay|grant)-[0-9a-f-]+'
cat /var/lib/virt-trust/agent/grants.json 2>/dev/null
true`;

/** Sockets, ports, processes, firewall rules, grants and files of pinned migrations that are on the host now. */
export async function leftOf(host: Host): Promise<string[]> {
  return (await host.run(['sh', '-c', LOOK])).split('\n').filter(Boolean);
}
