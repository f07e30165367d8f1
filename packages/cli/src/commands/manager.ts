import { getManagerIdentity, rollManagerKey } from '@virt-trust/contract/manager/self-operations.ts';
import type { Command } from 'commander';
import { followJob } from '../job-watch.ts';
import { managerClient } from '../manager-client.ts';
import { writeJson, writeLine } from '../output.ts';
import { jsonOption } from './option.ts';

export function addManagerCommands(program: Command): void {
  const manager = program.command('manager').description("The manager's own key on its channels");
  manager
    .command('identity')
    .description('Its public key pins')
    .addOption(jsonOption())
    .action(async (options) => {
      const identity = await managerClient().call(getManagerIdentity, {});
      if (options.json === true) return writeJson(identity);
      writeLine(`current  ${identity.current}`);
      if (identity.next !== null) writeLine(`next     ${identity.next}`);
      if (identity.previous !== null) writeLine(`previous ${identity.previous}`);
    });
  manager
    .command('roll-key')
    .description('Replace it by its standby on every host, over the channels')
    .option('--compromised', 'roll twice: whoever read the disk has the standby too')
    .addOption(jsonOption())
    .action(async (options) => {
      const client = managerClient();
      const query = { compromised: options.compromised === true };
      await followJob(client, await client.call(rollManagerKey, { query }), options);
    });
}
