import { createToken, deleteToken, listTokens } from '@virt-trust/contract/manager/token-operations.ts';
import { Role } from '@virt-trust/contract/model/access.ts';
import { type Command, Option } from 'commander';
import { managerClient } from '../manager-client.ts';
import { formatTime, writeJson, writeLine, writeNote, writeTable } from '../output.ts';
import { requireConfirmation } from '../prompt.ts';
import { jsonOption, yesOption } from './option.ts';

export function addTokenCommands(program: Command): void {
  const roles = Role.anyOf.map((one) => one.const);
  const token = program.command('token').description('Who may ask the manager');
  token
    .command('list')
    .description('All tokens, without their secrets')
    .addOption(jsonOption())
    .action(async (options) => {
      const { items } = await managerClient().call(listTokens, {});
      if (options.json === true) return writeJson(items);
      writeTable(
        ['id', 'name', 'role', 'made', 'last used'],
        items.map((one) => [
          one.id,
          one.name,
          one.role,
          formatTime(one.createdAt),
          formatTime(one.lastUsedAt),
        ]),
      );
    });
  token
    .command('create')
    .description('Make a token; it is shown once')
    .argument('<name>')
    .addOption(new Option('--role <role>', 'what it may do').choices(roles).makeOptionMandatory())
    .addOption(jsonOption())
    .action(async (name: string, options) => {
      const made = await managerClient().call(createToken, { body: { name, role: options.role } });
      if (options.json === true) return writeJson(made);
      writeLine(made.secret);
      writeNote('It is shown this once; only its hash is kept.');
    });
  token
    .command('delete')
    .description('Take a token away')
    .argument('<id>')
    .addOption(yesOption())
    .addOption(jsonOption())
    .action(async (id: string, options) => {
      await requireConfirmation(`Delete token ${id}?`, options.yes);
      await managerClient().call(deleteToken, { params: { id } });
      if (options.json === true) writeJson({ id, deleted: true });
    });
}
