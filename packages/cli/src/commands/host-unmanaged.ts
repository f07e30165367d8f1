import { TrustError } from '@virt-trust/base/error.ts';
import {
  deleteUnmanagedHost,
  listUnmanagedHosts,
  putUnmanagedHost,
} from '@virt-trust/contract/manager/migration-operations.ts';
import { listSettings } from '@virt-trust/contract/manager/setting-operations.ts';
import { given } from '../given.ts';
import { managerClient } from '../manager-client.ts';
import { writeErrorLine, writeJson, writeLine, writeNote } from '../output.ts';
import { requireConfirmation } from '../prompt.ts';

interface Options {
  readonly cluster?: string;
  readonly json?: boolean;
}

/** What `host add` has for enrolment alone. */
const ENROLMENT = [
  'ssh',
  'sshFingerprint',
  'sshPort',
  'sshIdentity',
  'sshOption',
  'observe',
  'interface',
  'name',
  'channelAddress',
  'channelPort',
  'managerAddress',
] as const;

/** `host add NAME --unmanaged ADDRESS`: nothing is done on the host. */
export async function addUnmanaged(name: string, address: string, options: Options): Promise<void> {
  const other = ENROLMENT.find((one) => one in options);
  if (other !== undefined)
    throw new TrustError(
      'cli.usage',
      'invalid',
      `cannot add host ${name}: --unmanaged goes with --cluster alone, and nothing is enrolled`,
      { hint: 'leave out --unmanaged to take the host under management' },
    );
  const body = { address, ...given({ cluster: options.cluster }) };
  const host = await managerClient().call(putUnmanagedHost, { params: { name }, body });
  writeErrorLine('warning', `nothing secures migrations from and to ${name}: they go in the clear`);
  if (options.json === true) return writeJson(host);
  writeLine(`host ${name} is known at ${host.address} in cluster ${host.cluster}, without an agent`);
}

/** `host remove NAME` for a host without an agent; false where there is none of that name. */
export async function forgetUnmanaged(
  name: string,
  options: { yes?: boolean; json?: boolean },
): Promise<boolean> {
  const client = managerClient();
  const { items } = await client.call(listUnmanagedHosts, {});
  const host = items.find((one) => one.name === name);
  if (host === undefined) return false;
  await requireConfirmation(`Forget host ${name}, on which nothing was changed?`, options.yes);
  const { items: settings } = await client.call(listSettings, { query: { host: name } });
  const own = settings.filter(({ from }) => from === 'host').map((one) => one.name);
  await client.call(deleteUnmanagedHost, { params: { name } });
  if (own.length > 0) writeNote(`what was set for it is forgotten, too: ${own.join(', ')}`);
  if (options.json === true) writeJson(host);
  else writeLine(`host ${name} is forgotten; nothing was done on it`);
  return true;
}
