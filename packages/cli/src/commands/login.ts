import { TrustError } from '@virt-trust/base/error.ts';
import { getWhoAmI } from '@virt-trust/contract/manager/self-operations.ts';
import type { Command } from 'commander';
import { DEFAULT_URL, parseToken, saveCredentials } from '../credentials.ts';
import { managerClient } from '../manager-client.ts';
import { parseManagerUrl } from '../manager-url.ts';
import { writeLine } from '../output.ts';
import { readSecret } from '../prompt.ts';

export function addLoginCommand(program: Command): void {
  program
    .command('login')
    .description('Save the token for a manager, read from standard input or asked for')
    .option('--url <url>', 'where the manager is', process.env['VIRT_TRUST_URL'] || DEFAULT_URL)
    .action(async (options: { url: string }) => {
      const url = parseManagerUrl(options.url);
      const token = await readSecret('Token: ');
      if (token === '')
        throw new TrustError('cli.no_token', 'invalid', 'cannot log in: no token was given', {
          hint: 'type it, or give it on standard input: virt-trust login <token.txt',
        });
      const credentials = { url, token: parseToken(token) };
      const me = await managerClient(credentials).call(getWhoAmI, {});
      writeLine(`logged in to ${url} as ${me.name} (${me.role}); saved in ${saveCredentials(credentials)}`);
    });
}
