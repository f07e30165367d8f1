import { silentLog } from '@virt-trust/base/log.ts';
import type { DeclaredHost } from '@virt-trust/manager/issuance/declared-names.ts';
import { composeIssuance } from '@virt-trust/manager/issuance-domain.ts';
import { startManager } from '@virt-trust/manager/manager.ts';
import { hostNames } from './issuance-requests.ts';

/** Its own process: a manager that knows hosts by number; prints its address and token. */
const [stateDirectory = '', count = '0'] = process.argv.slice(2);
const managerNames = { dns: ['manager.example'], addresses: [] };
const hosts = new Map<string, DeclaredHost>();
for (let index = 0; index < Number(count); index++) {
  const names = hostNames(index);
  const name = `host${index}`;
  hosts.set(name, { name, cluster: 'default', names, services: { libvirt: { commonName: name, names } } });
}
const manager = await startManager(
  { stateDirectory, version: 'bench', listen: { address: '127.0.0.1', port: 0 }, log: silentLog },
  [
    (core) =>
      composeIssuance(core, {
        declaredNames: { find: async (name) => hosts.get(name) ?? null },
        managerNames: () => managerNames,
        constraints: { dns: [], subnets: [] },
      }),
  ],
);
process.once('SIGTERM', () => void manager.close().then(() => process.exit(0)));
console.log(JSON.stringify({ url: manager.url, token: manager.initialToken }));
