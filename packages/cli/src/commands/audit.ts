import { TrustError } from '@virt-trust/base/error.ts';
import { listAudit, verifyAudit } from '@virt-trust/contract/manager/audit-operations.ts';
import type { Command } from 'commander';
import { everyPage } from '../every-page.ts';
import { managerClient } from '../manager-client.ts';
import { writeJson, writeLine, writeTable } from '../output.ts';
import { jsonOption } from './option.ts';

export function addAuditCommands(program: Command): void {
  const audit = program.command('audit').description('The hash-chained log of every action');
  audit
    .command('list')
    .description('All entries, oldest first')
    .addOption(jsonOption())
    .action(async (options) => {
      const client = managerClient();
      const entries = await everyPage((query) => client.call(listAudit, { query }));
      if (options.json === true) return writeJson(entries);
      writeTable(
        ['no', 'at', 'actor', 'action', 'subject', 'outcome', 'detail'],
        entries.map((one) => [
          String(one.sequence),
          new Date(one.at).toISOString(),
          one.actor,
          one.action,
          one.subject,
          one.outcome,
          one.detail.slice(0, 120),
        ]),
      );
    });
  audit
    .command('verify')
    .description('Recompute the hash chain')
    .addOption(jsonOption())
    .action(async (options) => {
      const verdict = await managerClient().call(verifyAudit, {});
      if (options.json === true) writeJson(verdict);
      else if (verdict.intact) writeLine(`intact: ${verdict.entries} entries, head ${verdict.head}`);
      if (!verdict.intact)
        throw new TrustError(
          'audit.broken',
          'failed',
          `the audit log was altered: ${verdict.problem ?? 'the chain does not hold'}`,
        );
    });
}
