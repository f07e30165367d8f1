import { systemClock } from '@virt-trust/base/clock.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { type Command, Option } from 'commander';
import { formatTime, writeJson, writeLine } from '../output.ts';
import { jsonOption } from './option.ts';

interface BackupOptions {
  stateDirectory: string;
  to: string;
  sealKey?: string;
  sealKeyTo?: string;
  json?: boolean;
}

interface RestoreOptions {
  from: string;
  stateDirectory: string;
  sealKey?: string;
  json?: boolean;
}

const DEFAULT_STATE = '/var/lib/virt-trust-manager';

export function addBackupCommands(program: Command): void {
  program
    .command('backup')
    .description('Copy the store of the manager, which goes on serving; without the seal key')
    .requiredOption('--to <file>', 'where the backup goes; never overwritten')
    .addOption(stateDirectory())
    .addOption(sameByOtherName())
    .option('--seal-key <file>', 'the seal key, where it is not in the state directory')
    .option('--seal-key-to <file>', 'write a copy of the seal key to a file of its own; keep it elsewhere')
    .addOption(jsonOption())
    .action((_, command: Command) => backup(optionsOf<BackupOptions>(command)));
  program
    .command('restore')
    .description('Put a backup in place of an empty store, for a manager that goes on driving its hosts')
    .requiredOption('--from <file>', 'a file that virt-trust backup made')
    .addOption(stateDirectory())
    .addOption(sameByOtherName())
    .option('--seal-key <file>', 'the seal key of then, where it is not in the state directory')
    .addOption(jsonOption())
    .action((_, command: Command) => restore(optionsOf<RestoreOptions>(command)));
}

function stateDirectory(): Option {
  return new Option('--state-directory <directory>', 'where the store and the keys are').default(
    DEFAULT_STATE,
  );
}

/** As `serve` names it. */
function sameByOtherName(): Option {
  return new Option('--state-dir <directory>').hideHelp();
}

function optionsOf<T extends { stateDirectory: string }>(command: Command): T {
  const options = command.opts<T & { stateDir?: string }>();
  return { ...options, stateDirectory: options.stateDir ?? options.stateDirectory };
}

async function backup(options: BackupOptions): Promise<void> {
  const { backUp } = await import('@virt-trust/manager/store/backup.ts');
  const { path, header } = await backUp({
    stateDirectory: options.stateDirectory,
    to: options.to,
    sealKeyFile: options.sealKey,
    sealKeyTo: options.sealKeyTo,
    credentialsDirectory: process.env['CREDENTIALS_DIRECTORY'],
    clock: systemClock,
    randomness: systemRandomness,
  });
  if (options.json === true) return writeJson({ path, ...header });
  writeLine(`${path}: ${header.bytes} bytes, audit log of ${header.audit.entries} entries`);
  writeLine(
    `  without the seal key: to restore it takes key ${header.sealKeys.join(', ')}, which must be kept elsewhere`,
  );
  if (options.sealKeyTo !== undefined)
    writeLine(`  ${options.sealKeyTo}: the seal key; with both files one is the manager`);
}

async function restore(options: RestoreOptions): Promise<void> {
  const { restore: restoreStore } = await import('@virt-trust/manager/store/restore.ts');
  const done = await restoreStore({
    from: options.from,
    stateDirectory: options.stateDirectory,
    sealKeyFile: options.sealKey,
    credentialsDirectory: process.env['CREDENTIALS_DIRECTORY'],
    clock: systemClock,
    randomness: systemRandomness,
  });
  if (options.json === true) return writeJson(done);
  writeLine(
    `${options.stateDirectory} is as it was on ${formatTime(done.header.madeAt)}: ${done.hosts} hosts`,
  );
  writeLine(`  epoch        ${done.epoch}, which hosts take for newer than all they were told before`);
  writeLine(`  jobs         ${done.jobsCancelled} that were under way then are cancelled`);
  writeLine(`  tokens       ${done.tokens} of then are valid again: look at virt-trust token list`);
  writeLine(
    '  revocations  those made since then are learnt from the hosts, before a CRL is signed: virt-trust crl list',
  );
  writeLine(
    `Let no other manager run on this state, then: virt-trust serve --state-dir ${options.stateDirectory}`,
  );
}
