import { TrustError } from '@virt-trust/base/error.ts';
import {
  deleteWebhook,
  getWebhook,
  putWebhook,
  testWebhook,
} from '@virt-trust/contract/manager/alarm-operations.ts';
import type { Webhook } from '@virt-trust/contract/model/alarm.ts';
import type { Command } from 'commander';
import { given } from '../given.ts';
import { readInputFile } from '../input-file.ts';
import { managerClient } from '../manager-client.ts';
import { formatTime, writeJson, writeLine, writeNote } from '../output.ts';
import { requireConfirmation } from '../prompt.ts';
import { jsonOption, yesOption } from './option.ts';

export function addWebhookCommands(program: Command): void {
  const webhook = program.command('webhook').description('Where alarms are sent to');
  webhook
    .command('show')
    .description('The webhook, without its secret, and how its deliveries fare')
    .addOption(jsonOption())
    .action(async (options: { json?: boolean }) => {
      const { webhook: set } = await managerClient().call(getWebhook, {});
      if (options.json === true) writeJson(set);
      else if (set === null)
        writeLine('alarms are sent nowhere; set a webhook with: virt-trust webhook set URL');
      else write(set);
    });
  webhook
    .command('set')
    .description('Send alarms to a URL, signed with a secret; one that is made is shown once')
    .argument('<url>', 'http or https')
    .option('--secret-file <file>', 'with a secret of 16 to 256 characters in it')
    .addOption(jsonOption())
    .action(set);
  webhook
    .command('remove')
    .description('Send alarms nowhere; what waits is dropped')
    .addOption(yesOption())
    .addOption(jsonOption())
    .action(async (options: { yes?: boolean; json?: boolean }) => {
      await requireConfirmation('Send alarms nowhere, and drop what waits?', options.yes);
      await managerClient().call(deleteWebhook, {});
      if (options.json === true) writeJson({ removed: true });
    });
  webhook
    .command('test')
    .description('Send one request now, and say what came back')
    .addOption(jsonOption())
    .action(async (options: { json?: boolean }) => {
      const tested = await managerClient().call(testWebhook, {});
      if (options.json === true) writeJson(tested);
      else writeLine(`${tested.delivered ? 'delivered' : 'not delivered'}: ${tested.answer}`);
      if (!tested.delivered) process.exitCode = 1;
    });
}

async function set(url: string, options: { secretFile?: string; json?: boolean }): Promise<void> {
  const secret =
    options.secretFile === undefined
      ? undefined
      : (await readInputFile(options.secretFile, '--secret-file')).trim();
  if (secret !== undefined && (secret.length < 16 || secret.length > 256))
    throw new TrustError(
      'webhook.secret',
      'invalid',
      `cannot use the secret of --secret-file: ${secret.length} characters, not 16 to 256`,
    );
  const made = await managerClient().call(putWebhook, { body: given({ url, secret }) });
  if (options.json === true) return writeJson(made);
  if (made.secret !== null) {
    writeLine(made.secret);
    writeNote('The secret is shown this once; receivers check Virt-Trust-Signature with it.');
  }
  writeNote('Try it with: virt-trust webhook test');
}

function write(webhook: Webhook): void {
  const lines: [string, string][] = [
    ['url', webhook.url],
    ['waiting', String(webhook.waiting)],
    ['dropped', String(webhook.dropped)],
    ['last taken', formatTime(webhook.lastDeliveryAt)],
    ['last failure', webhook.lastFailure ?? '-'],
  ];
  for (const [name, value] of lines) writeLine(`${name.padEnd(12)} ${value}`);
}
