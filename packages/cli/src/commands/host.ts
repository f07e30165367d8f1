import { listAlarms } from '@virt-trust/contract/manager/alarm-operations.ts';
import {
  collectHost,
  getHost,
  listHosts,
  passGate,
  removeHost,
  rollHostKey,
} from '@virt-trust/contract/manager/host-operations.ts';
import { revokeHost } from '@virt-trust/contract/manager/lifecycle-operations.ts';
import { listUnmanagedHosts } from '@virt-trust/contract/manager/migration-operations.ts';
import { Gate } from '@virt-trust/contract/model/gate.ts';
import type { HostDetail } from '@virt-trust/contract/model/host.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import { Argument, type Command } from 'commander';
import { everyPage } from '../every-page.ts';
import { writeHost, writeHosts, writeUnmanagedHost } from '../host-view.ts';
import { followJob } from '../job-watch.ts';
import { type ManagerClient, managerClient } from '../manager-client.ts';
import { writeJson } from '../output.ts';
import { requireConfirmation } from '../prompt.ts';
import { addHostAddCommand } from './host-add.ts';
import { addHostPlaceCommands } from './host-place.ts';
import { addHostProvisionCommand } from './host-provision.ts';
import { forgetUnmanaged } from './host-unmanaged.ts';
import { jsonOption, yesOption } from './option.ts';
import { type RevokeOptions, reasonOption, revokeOrderOf } from './revoke-options.ts';

const GATES = Gate.anyOf.map((one) => one.const);

export function addHostCommands(program: Command): void {
  const host = program.command('host').description('The hosts under management');
  addHostAddCommand(host);
  addHostProvisionCommand(host);
  host.command('list').description('All hosts').addOption(jsonOption()).action(list);
  host
    .command('show')
    .description('One host with its interfaces, services, gates and VMs')
    .argument('<name>')
    .addOption(jsonOption())
    .action(show);
  host
    .command('collect')
    .description('Read the inventory anew')
    .argument('<name>')
    .addOption(jsonOption())
    .action(collectInventory);
  host
    .command('gate')
    .description('Take a step of adoption that takes something away')
    .argument('<name>')
    .addArgument(new Argument('<gate>').choices(GATES))
    .option('--force', 'in spite of what speaks against it')
    .addOption(yesOption())
    .addOption(jsonOption())
    .action(gate);
  host
    .command('remove')
    .description('Give the host back what was found on it, and forget it')
    .argument('<name>')
    .option('--force', 'forget it even where it cannot be reached')
    .addOption(yesOption())
    .addOption(jsonOption())
    .action(async (name: string, options) => {
      if (await forgetUnmanaged(name, options)) return;
      await requireConfirmation(`Remove host ${name} and put back what was found on it?`, options.yes);
      await follow(
        (client) => client.call(removeHost, { params: { name }, query: { force: options.force === true } }),
        options,
      );
    });
  host
    .command('revoke')
    .description(
      'Revoke every certificate of a host: others refuse it, and it gets none until it is provisioned',
    )
    .argument('<name>')
    .addOption(reasonOption())
    .option('--comment <text>', 'why, for the audit log')
    .addOption(yesOption())
    .addOption(jsonOption())
    .action(async (name: string, options: RevokeOptions) => {
      await requireConfirmation(`Revoke every certificate of host ${name} (${options.reason})?`, options.yes);
      await follow(
        (client) => client.call(revokeHost, { params: { name }, body: revokeOrderOf(options) }),
        options,
      );
    });
  host
    .command('roll-key')
    .description("Replace the agent's channel key by its standby")
    .argument('<name>')
    .option('--compromised', 'roll twice: whoever read the disk has the standby too')
    .addOption(jsonOption())
    .action((name: string, options) =>
      follow(
        (client) =>
          client.call(rollHostKey, {
            params: { name },
            query: { compromised: options.compromised === true },
          }),
        options,
      ),
    );
  addHostPlaceCommands(host);
}

async function follow(
  start: (client: ManagerClient) => Promise<Job>,
  options: { json?: boolean },
): Promise<void> {
  const client = managerClient();
  await followJob(client, await start(client), options);
}

async function gate(
  name: string,
  wanted: Gate,
  options: { force?: boolean; yes?: boolean; json?: boolean },
): Promise<void> {
  await requireConfirmation(`Pass gate ${wanted} of host ${name}?`, options.yes);
  await follow(
    (client) =>
      client.call(passGate, { params: { name, gate: wanted }, body: { force: options.force === true } }),
    options,
  );
}

async function list(options: { json?: boolean }): Promise<void> {
  const client = managerClient();
  const hosts = await everyPage((page) => client.call(listHosts, { query: page }));
  const { items: unmanaged } = await client.call(listUnmanagedHosts, {});
  if (options.json === true)
    writeJson([...hosts, ...unmanaged.map((one) => ({ ...one, state: 'unmanaged' }))]);
  else writeHosts(hosts, unmanaged);
}

async function show(name: string, options: { json?: boolean }): Promise<void> {
  const client = managerClient();
  const { items } = await client.call(listUnmanagedHosts, {});
  const unmanaged = items.find((one) => one.name === name);
  if (unmanaged === undefined)
    return await print(client, await client.call(getHost, { params: { name } }), options);
  if (options.json === true) writeJson({ ...unmanaged, state: 'unmanaged' });
  else writeUnmanagedHost(unmanaged);
}

async function collectInventory(name: string, options: { json?: boolean }): Promise<void> {
  const client = managerClient();
  await print(client, await client.call(collectHost, { params: { name } }), options);
}

async function print(client: ManagerClient, host: HostDetail, options: { json?: boolean }): Promise<void> {
  if (options.json === true) return writeJson(host);
  const { items } = await client.call(listAlarms, { query: { host: host.name, limit: 100 } });
  writeHost(host, items);
}
