import { VERSION } from '@virt-trust/base/version.ts';
import { Command, CommanderError } from 'commander';
import { addAgentCommands } from './commands/agent.ts';
import { addAlarmCommands } from './commands/alarm.ts';
import { addAuditCommands } from './commands/audit.ts';
import { addAuthorityCommands } from './commands/authority.ts';
import { addBackupCommands } from './commands/backup.ts';
import { addCertificateCommands } from './commands/certificate.ts';
import { addCheckCommand } from './commands/check.ts';
import { addCompletionCommand } from './commands/completion.ts';
import { addConsoleCommand } from './commands/console.ts';
import { addCrlCommands } from './commands/crl.ts';
import { addHostCommands } from './commands/host.ts';
import { addInterfaceCommands } from './commands/interface.ts';
import { addJobCommands } from './commands/job.ts';
import { addLoginCommand } from './commands/login.ts';
import { addManagerCommands } from './commands/manager.ts';
import { addMigrateCommand } from './commands/migrate.ts';
import { addProbeCommand } from './commands/probe.ts';
import { addRenewalCommands } from './commands/renewal.ts';
import { addSecretCommands } from './commands/secret.ts';
import { addServeCommand } from './commands/serve.ts';
import { addSettingCommands } from './commands/setting.ts';
import { addTokenCommands } from './commands/token.ts';
import { addWebhookCommands } from './commands/webhook.ts';
import { EXIT_CODES_HELP, exitCodeOf } from './exit-code.ts';
import { writeError, writeErrorLine } from './output.ts';

/** What commander says of wrong words, in the form of all errors. */
function writeUsageError(text: string): void {
  const [message = '', suggestion] = text.replace(/^error: /, '').split('\n(Did you mean ');
  writeErrorLine('error', message);
  writeErrorLine(
    'hint',
    suggestion === undefined
      ? 'see what there is with --help'
      : `did you mean ${suggestion.replace(/\)\s*$/, '')}`,
  );
}

const program = new Command('virt-trust')
  .description(
    'Gives a fleet of KVM hosts its trust: every TLS certificate of libvirt and QEMU, kept right and proven live.',
  )
  .version(VERSION, '-V, --version')
  .addHelpText('after', EXIT_CODES_HELP)
  .showSuggestionAfterError()
  .configureOutput({ outputError: (text) => writeUsageError(text) })
  .exitOverride();

for (const add of [
  addServeCommand,
  addLoginCommand,
  addHostCommands,
  addInterfaceCommands,
  addCertificateCommands,
  addRenewalCommands,
  addAuthorityCommands,
  addCrlCommands,
  addMigrateCommand,
  addConsoleCommand,
  addAlarmCommands,
  addWebhookCommands,
  addSettingCommands,
  addJobCommands,
  addAuditCommands,
  addTokenCommands,
  addManagerCommands,
  addSecretCommands,
  addBackupCommands,
  addProbeCommand,
  addCheckCommand,
  addAgentCommands,
  addCompletionCommand,
]) {
  add(program);
}

// A reader that goes away early (head, say) is no fault of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
});

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    // Commander has said it already; help and version end well.
    process.exitCode = error.exitCode === 0 ? 0 : 2;
  } else {
    writeError(error);
    process.exitCode = exitCodeOf(error);
  }
}
