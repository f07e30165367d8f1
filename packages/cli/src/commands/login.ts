import { TrustError } from '@virt-trust/base/error.ts';
import { getWhoAmI } from '@virt-trust/contract/manager/operations.ts';
import type { Command } from 'commander';
import { DEFAULT_URL, saveCredentials } from '../credentials.ts';
import { managerClient } from '../manager-client.ts';
import { writeLine } from '../output.ts';
import { readSecret } from '../prompt.ts';

export function addLoginCommand(program: Command): void {
  program
    .command('login')
    .description('Save the token for a manager, read from standard input or asked for')
    .option('--url <url>', 'where the manager is', process.env['VIRT_TRUST_URL'] ?? DEFAULT_URL)
    .action(async (options: { url: string }) => {
      const token = await readSecret('Token: ');
      if (token === '') throw new TrustError('cli.no_token', 'invalid', 'cannot log in: no token was given');
      const credentials = { url: options.url, token };
      const me = await managerClient(credentials).call(getWhoAmI, {});
      writeLine(
        `logged in to ${options.url} as ${me.name} (${me.role}); saved in ${saveCredentials(credentials)}`,
      );
    });
}
