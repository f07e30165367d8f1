import { renameHost, setHostAddress } from '@virt-trust/contract/manager/interface-operations.ts';
import type { Command } from 'commander';
import { given } from '../given.ts';
import { followJob } from '../job-watch.ts';
import { managerClient } from '../manager-client.ts';
import { writeJson, writeLine } from '../output.ts';
import { integerBetween, jsonOption } from './option.ts';

interface AddressOptions {
  port?: number;
  ssh?: string;
  channelOnly?: boolean;
  json?: boolean;
}

const ADDRESS_HELP = `
For what the agent can't report: a host behind NAT, or one that moved while the manager was away. Its key decides who
answers there, so a wrong address is refused and trusts nobody.
Examples:
  virt-trust host set-address kvm1 192.0.2.41
  virt-trust host set-address kvm1 203.0.113.7 --port 26515 --channel-only
More: docs/interfaces.md`;

const RENAME_HELP = `
The name that it has here, in certificates and in settings; nothing on the host itself is renamed.
Example: virt-trust host rename kvm1 kvm1.rack2.example
More: docs/interfaces.md`;

/** Where a host is and what it is called: `host set-address`, `host rename`. */
export function addHostPlaceCommands(host: Command): void {
  host
    .command('set-address')
    .description('Say where a host is now: the channel is dialled there, and its certificates follow')
    .argument('<name>')
    .argument('<address>', 'address or DNS name')
    .option('--port <port>', "the agent's port, where it is another now", integerBetween(1, 65535))
    .option('--ssh <user@host>', 'where ssh reaches it, where that is not the same address')
    .option('--channel-only', 'only dial there: no certificate says it')
    .addOption(jsonOption())
    .addHelpText('after', ADDRESS_HELP)
    .action(setAddress);
  host
    .command('rename')
    .description('Give a host another name here; its certificates follow')
    .argument('<name>')
    .argument('<new-name>')
    .addOption(jsonOption())
    .addHelpText('after', RENAME_HELP)
    .action(rename);
}

async function setAddress(name: string, address: string, options: AddressOptions): Promise<void> {
  const client = managerClient();
  const body = {
    address,
    ...given({
      port: options.port,
      ssh: options.ssh === undefined ? undefined : { destination: options.ssh },
      channelOnly: options.channelOnly,
    }),
  };
  await followJob(client, await client.call(setHostAddress, { params: { name }, body }), options);
}

async function rename(name: string, newName: string, options: { json?: boolean }): Promise<void> {
  const host = await managerClient().call(renameHost, { params: { name }, body: { name: newName } });
  if (options.json === true) return writeJson(host);
  if (host.name === name) return writeLine(`host ${name} is called so already`);
  writeLine(`host ${name} is ${host.name} now; its certificates follow: virt-trust job list`);
}
