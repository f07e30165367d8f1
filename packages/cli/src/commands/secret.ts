import { rotateSecrets } from '@virt-trust/contract/manager/secret-operations.ts';
import type { Command } from 'commander';
import { followJob } from '../job-watch.ts';
import { managerClient } from '../manager-client.ts';
import { jsonOption } from './option.ts';

export function addSecretCommands(program: Command): void {
  const secret = program.command('secret').description("The manager's secrets at rest");
  secret
    .command('rotate')
    .description(
      'Seal every secret of the store under a new key while the manager serves; destroys the old key',
    )
    .addOption(jsonOption())
    .action(async (options) => {
      const client = managerClient();
      await followJob(client, await client.call(rotateSecrets, {}), options);
    });
}
