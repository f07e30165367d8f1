import { getFreeze, listRenewals, putFreeze } from '@virt-trust/contract/manager/lifecycle-operations.ts';
import type { ResultOf } from '@virt-trust/contract/operation.ts';
import type { Command } from 'commander';
import { given } from '../given.ts';
import { requireKnownHost } from '../known-host.ts';
import { managerClient } from '../manager-client.ts';
import { formatTime, writeJson, writeLine, writeTable } from '../output.ts';
import { integerBetween, jsonOption } from './option.ts';

export function addRenewalCommands(program: Command): void {
  const renewal = program.command('renewal').description('The renewals to come, which begin by themselves');
  renewal
    .command('list')
    .description('When the certificates that are served are renewed, soonest first')
    .option('--host <name>', 'of one host')
    .option('--limit <count>', 'how many', integerBetween(1, 1000), 100)
    .option('--explain', 'with the reckoning of each')
    .addOption(jsonOption())
    .action(list);
  program
    .command('freeze')
    .description('Stop all renewals and repairs that nobody asks for by name, at once')
    .option('--reason <text>', 'why, for whoever wonders')
    .addOption(jsonOption())
    .action((options: { reason?: string; json?: boolean }) => put(true, options));
  program
    .command('unfreeze')
    .description('Let renewals and repairs go on')
    .option('--reason <text>', 'why, for the audit log')
    .addOption(jsonOption())
    .action((options: { reason?: string; json?: boolean }) => put(false, options));
}

async function list(options: {
  host?: string;
  limit: number;
  explain?: boolean;
  json?: boolean;
}): Promise<void> {
  const client = managerClient();
  const [{ items }, freeze] = await Promise.all([
    client.call(listRenewals, { query: given({ host: options.host, limit: options.limit }) }),
    client.call(getFreeze, {}),
  ]);
  await requireKnownHost(client, options.host, items);
  if (options.json === true) return writeJson(items);
  if (freeze.frozen) writeFreeze(freeze);
  writeTable(
    ['at', 'host', 'service', 'state', 'expires', 'serial', 'last failure'],
    items.map((one) => [
      formatTime(one.plan.at),
      one.host,
      one.service,
      one.state,
      formatTime(one.notAfter),
      one.serialNumber,
      one.plan.failures === 0 ? '-' : `${one.plan.failures}: ${one.plan.lastFailure ?? ''}`.slice(0, 120),
    ]),
  );
  if (options.explain !== true) return;
  for (const one of items) {
    writeLine();
    writeLine(`${one.service} of host ${one.host}:`);
    for (const line of one.plan.explanation) writeLine(`  ${line}`);
  }
}

async function put(frozen: boolean, options: { reason?: string; json?: boolean }): Promise<void> {
  const freeze = await managerClient().call(putFreeze, { body: given({ frozen, reason: options.reason }) });
  if (options.json === true) writeJson(freeze);
  else writeFreeze(freeze);
}

function writeFreeze({ frozen, by, reason, since }: ResultOf<typeof getFreeze>): void {
  if (!frozen) {
    writeLine('renewals and repairs go on');
    return;
  }
  const why = reason === '' ? '' : `: ${reason}`;
  writeLine(
    `frozen since ${formatTime(since)} by ${by ?? 'somebody'}${why}; let it go on with: virt-trust unfreeze`,
  );
}
