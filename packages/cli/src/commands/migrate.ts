import { createMigrationJob } from '@virt-trust/contract/manager/migration-operations.ts';
import type { Command } from 'commander';
import { given } from '../given.ts';
import { followJob } from '../job-watch.ts';
import { managerClient } from '../manager-client.ts';
import { integerBetween, jsonOption } from './option.ts';

export function addMigrateCommand(program: Command): void {
  program
    .command('migrate')
    .description('Migrate a VM live over TLS')
    .argument('<vm>')
    .requiredOption('--from <host>', 'where it runs')
    .requiredOption('--to <host>', 'where it shall run')
    .option('--bandwidth <MiB/s>', 'at most that much of the network', integerBetween(1, 1_000_000))
    .addOption(jsonOption())
    .action(async (vm: string, options: { from: string; to: string; bandwidth?: number; json?: boolean }) => {
      const client = managerClient();
      const body = given({ vm, from: options.from, to: options.to, bandwidthMiB: options.bandwidth });
      await followJob(client, await client.call(createMigrationJob, { body }), options);
    });
}
