import { getAuthority, listAuthorities } from '@virt-trust/contract/manager/certificate-operations.ts';
import type { Command } from 'commander';
import { managerClient } from '../manager-client.ts';
import { formatTime, writeJson, writeLine, writeTable } from '../output.ts';
import { jsonOption } from './option.ts';

export function addAuthorityCommands(program: Command): void {
  const authority = program.command('authority').description('The authorities, one for each purpose');
  authority
    .command('list')
    .description('All authorities')
    .addOption(jsonOption())
    .action(async (options) => {
      const { items } = await managerClient().call(listAuthorities, {});
      if (options.json === true) return writeJson(items);
      writeTable(
        ['name', 'purpose', 'provider', 'key', 'expires', 'subject'],
        items.map((one) => [
          one.name,
          one.purpose,
          one.provider,
          one.keyAlgorithm,
          formatTime(one.notAfter),
          one.subject,
        ]),
      );
    });
  authority
    .command('show')
    .description('One authority')
    .argument('<name>')
    .addOption(jsonOption())
    .action(async (name: string, options) => {
      const one = await managerClient().call(getAuthority, { params: { name } });
      if (options.json === true) return writeJson(one);
      writeLine(`${one.name}  ${one.subject}`);
      writeLine(
        `  purpose ${one.purpose}, provider ${one.provider}, key ${one.keyAlgorithm}, valid until ${formatTime(one.notAfter)}`,
      );
      const permitted = [...one.constraints.dns, ...one.constraints.subnets];
      writeLine(`  name constraints: ${permitted.length === 0 ? 'none' : permitted.join(', ')}`);
    });
  authority
    .command('export')
    .description('What clients trust: the issuing CA and the root, in PEM')
    .argument('<name>')
    .action(async (name: string) => {
      process.stdout.write((await managerClient().call(getAuthority, { params: { name } })).bundle);
    });
}
