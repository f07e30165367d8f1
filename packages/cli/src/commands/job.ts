import { cancelJob, getJob, listJobs } from '@virt-trust/contract/manager/job-operations.ts';
import type { Command } from 'commander';
import { followJob } from '../job-watch.ts';
import { managerClient } from '../manager-client.ts';
import { formatTime, writeJson, writeLine, writeTable } from '../output.ts';
import { integerBetween, jsonOption } from './option.ts';

export function addJobCommands(program: Command): void {
  const job = program.command('job').description('Work under way and done');
  job
    .command('list')
    .description('Jobs, newest first')
    .option('--limit <count>', 'how many', integerBetween(1, 1000), 50)
    .addOption(jsonOption())
    .action(async (options) => {
      const { items } = await managerClient().call(listJobs, { query: { limit: options.limit } });
      if (options.json === true) return writeJson(items);
      writeTable(
        ['id', 'kind', 'subject', 'state', 'made', 'outcome'],
        items.map((one) => [
          one.id,
          one.kind,
          one.subject,
          one.state,
          formatTime(one.createdAt),
          one.error?.message ?? one.result ?? one.steps.at(-1)?.name ?? '',
        ]),
      );
    });
  job
    .command('show')
    .description('One job with its steps')
    .argument('<id>')
    .addOption(jsonOption())
    .action(async (id: string, options) => {
      const one = await managerClient().call(getJob, { params: { id } });
      if (options.json === true) return writeJson(one);
      writeLine(`${one.kind} ${one.subject}: ${one.state}`);
      for (const warning of one.warnings) writeLine(`  warning: ${warning}`);
      for (const step of one.steps)
        writeLine(
          `  ${step.state === 'done' ? '✔' : step.state === 'failed' ? '✖' : '…'} ${step.name}${step.detail === '' ? '' : ` - ${step.detail}`}`,
        );
      if (one.error !== null) writeLine(`  error: ${one.error.message}`);
      if (one.error?.hint) writeLine(`  hint: ${one.error.hint}`);
      if (one.result !== null) writeLine(`  ${one.result}`);
    });
  job
    .command('watch')
    .description('Follow a job until it is over')
    .argument('<id>')
    .addOption(jsonOption())
    .action(async (id: string, options) => {
      const client = managerClient();
      await followJob(client, await client.call(getJob, { params: { id } }), options);
    });
  job
    .command('cancel')
    .description('Cancel a job: what it did so far is taken back where that can be')
    .argument('<id>')
    .addOption(jsonOption())
    .action(async (id: string, options) => {
      const one = await managerClient().call(cancelJob, { params: { id } });
      if (options.json === true) return writeJson(one);
      const running = one.state === 'running';
      writeLine(`${one.kind} ${one.subject}: ${running ? 'asked to stop' : one.state}`);
      if (running) writeLine(`  see how it ends: virt-trust job watch ${one.id}`);
    });
}
