import { TrustError } from '@virt-trust/base/error.ts';
import { listHosts, provisionHost } from '@virt-trust/contract/manager/host-operations.ts';
import { listUnmanagedHosts } from '@virt-trust/contract/manager/migration-operations.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import { PROVIDERS } from '@virt-trust/contract/model/provider.ts';
import { type Command, Option } from 'commander';
import { everyPage } from '../every-page.ts';
import { given } from '../given.ts';
import { failureOf, followJob, jobChanges } from '../job-watch.ts';
import { type ManagerClient, managerClient } from '../manager-client.ts';
import { writeJson, writeNote, writeTable } from '../output.ts';
import { jsonOption } from './option.ts';

interface ProvisionOptions {
  cluster?: string;
  renew?: boolean;
  provider?: string;
  reconnect?: boolean;
  json?: boolean;
}

const HELP = `
What is not said is as the settings have it for each host: virt-trust setting get certificate.provider --host NAME,
virt-trust setting get provision.reconnect --host NAME. A host that only observes, or has no agent, is refused.
Examples:
  virt-trust host provision kvm1 kvm2
  virt-trust host provision --cluster rack1 --reconnect
More: docs/settings.md`;

export function addHostProvisionCommand(host: Command): void {
  host
    .command('provision')
    .description('Bring the certificates of hosts right: of those named, or of all managed ones of a cluster')
    .argument('[names...]')
    .option('--cluster <name>', 'every managed host of a cluster')
    .addOption(
      new Option('--provider <kind>', 'kind of CA, in place of the setting certificate.provider').choices(
        PROVIDERS,
      ),
    )
    .option('--reconnect', 'dial the channel anew and prove every endpoint again')
    .option('--no-reconnect', 'not so, whatever the setting provision.reconnect says')
    .option('--renew', 'make new keys and certificates although the present ones are good')
    .addOption(jsonOption())
    .addHelpText('after', HELP)
    .action(provision);
}

async function provision(names: readonly string[], options: ProvisionOptions): Promise<void> {
  const client = managerClient();
  const hosts = await chosen(client, names, options.cluster);
  const body = given({
    renew: options.renew === true,
    provider: options.provider,
    reconnect: options.reconnect,
  });
  const start = (name: string) => client.call(provisionHost, { params: { name }, body });
  const [only] = hosts;
  if (only !== undefined && hosts.length === 1 && options.cluster === undefined) {
    await followJob(client, await start(only), options);
    return;
  }
  await followAll(client, hosts, start, options);
}

/** Those named, and those of the cluster that are managed. */
async function chosen(
  client: ManagerClient,
  names: readonly string[],
  cluster: string | undefined,
): Promise<string[]> {
  if (cluster === undefined) {
    if (names.length > 0) return [...new Set(names)];
    throw new TrustError('cli.no_host', 'invalid', 'cannot provision: no host was named', {
      hint: 'name hosts, or a cluster with --cluster',
    });
  }
  const all = await everyPage((page) => client.call(listHosts, { query: page }));
  const { items: unmanaged } = await client.call(listUnmanagedHosts, {});
  const inIt = all.filter((one) => one.cluster === cluster);
  const members = inIt.filter(({ state }) => state !== 'observed');
  const leftOut = [
    ...inIt.filter(({ state }) => state === 'observed').map(({ name }) => `${name} is only observed`),
    ...unmanaged.filter((one) => one.cluster === cluster).map(({ name }) => `${name} has no agent`),
  ];
  if (members.length === 0)
    throw new TrustError(
      'cluster.empty',
      'not-found',
      `cannot provision cluster ${cluster}: no managed host is in it${leftOut.length === 0 ? '' : ` (${leftOut.join(', ')})`}`,
      { hint: 'see them with: virt-trust host list' },
    );
  if (leftOut.length > 0)
    writeNote(`left out: ${leftOut.join(', ')}; take these under management: virt-trust host list says how`);
  return [...new Set([...names, ...members.map(({ name }) => name)])];
}

/** A job for each host, side by side; one that fails holds no other up. */
async function followAll(
  client: ManagerClient,
  hosts: readonly string[],
  start: (name: string) => Promise<Job>,
  options: ProvisionOptions,
): Promise<void> {
  // All are asked for before any is waited for, so that they go on whatever becomes of this command.
  const started = await Promise.allSettled(hosts.map(start));
  for (const [index, one] of started.entries())
    if (one.status === 'fulfilled' && options.json !== true)
      writeNote(`host ${hosts[index]}: virt-trust job watch ${one.value.id}`);
  const ended = await Promise.allSettled(
    started.map((one) =>
      one.status === 'fulfilled' ? untilOver(client, one.value) : Promise.reject(one.reason),
    ),
  );
  const outcomes = ended.map((one, index) => ({
    host: hosts[index] ?? '',
    job: one.status === 'fulfilled' ? one.value : null,
    error: one.status === 'fulfilled' ? errorOf(one.value) : String(one.reason?.message ?? one.reason),
  }));
  if (options.json === true) writeJson(outcomes);
  else
    writeTable(
      ['host', 'state', 'what came of it'],
      outcomes.map(({ host, job, error }) => [host, job?.state ?? 'refused', error ?? job?.result ?? '']),
    );
  const failed = outcomes.filter(({ error }) => error !== null);
  if (failed.length === 0) return;
  throw new TrustError(
    'cli.some_failed',
    'failed',
    `cannot provision ${failed.length} of ${outcomes.length} hosts: ${failed.map(({ host }) => host).join(', ')}`,
    { hint: 'each says above why; the others are done' },
  );
}

async function untilOver(client: ManagerClient, job: Job): Promise<Job> {
  let last = job;
  for await (const current of jobChanges(client, job, new AbortController().signal)) last = current;
  return last;
}

function errorOf(job: Job): string | null {
  return job.state === 'done' ? null : failureOf(job).message;
}
