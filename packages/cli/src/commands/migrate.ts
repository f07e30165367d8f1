import { TrustError } from '@virt-trust/base/error.ts';
import {
  createMigrationJob,
  evacuateHost,
  getMigrationMatrix,
  planMigration,
} from '@virt-trust/contract/manager/migration-operations.ts';
import type { EvacuateHost } from '@virt-trust/contract/model/migration.ts';
import {
  Compression,
  MigrationOptions,
  type MigrationWish,
  TimeoutAction,
} from '@virt-trust/contract/model/migration-options.ts';
import { type Command, Option } from 'commander';
import { given } from '../given.ts';
import { followJob } from '../job-watch.ts';
import { managerClient } from '../manager-client.ts';
import { writeMatrix } from '../matrix-view.ts';
import { diskList, modeList, nameList, rawFlags } from '../migration-words.ts';
import { writeJson } from '../output.ts';
import { writePlan } from '../plan-view.ts';
import { collect, integerBetween, jsonOption } from './option.ts';

interface MigrateOptions extends Omit<MigrationWish, 'copyDisks' | 'bandwidthMiB' | 'downtimeMs'> {
  from?: string;
  to?: string[];
  mode?: EvacuateHost['mode'];
  plan?: boolean;
  matrix?: boolean;
  probe?: boolean;
  cluster?: string;
  all?: boolean;
  concurrency?: number;
  force?: boolean;
  copyDisks?: string[];
  compress?: Compression;
  bandwidth?: number;
  downtime?: number;
  timeout?: number;
  json?: boolean;
}

const HELP = `
What is not said is as the settings have it for the source (virt-trust setting list --host A). --no-OPTION says the
opposite of a setting that is on.
What goes with what:
  --plan, --force, --offline  for one VM
  --all                       takes --from, --to, --concurrency and what says how; no VM
  --matrix                    takes --cluster and --probe alone
  --offline                   no --copy-storage, --post-copy, --parallel, --compress, --auto-converge, --downtime,
                              --timeout; defines the VM there, as --persistent does. By the setting migration.offline
                              without being said, of VMs that are off alone; --no-offline for one VM
  --undefine-source           with --persistent, or the VM has no definition left once it is off
  --copy-disks                needs --copy-storage all or inc; inc needs the base image on both hosts
  --post-copy                 not with --no-live, --parallel or --compress; needs userfaultfd on the destination
  --parallel                  not with --post-copy, --compress xbzrle or mt
  --compress                  zlib and zstd need --parallel 1 or more, and libvirt 9.4 on both hosts
  --timeout-action            needs --timeout; suspend and post-copy not with --no-live; post-copy as --post-copy
  --mode                      each mode once; one that the setting migration.mode of either host leaves out is not taken
Modes: tls, by libvirt and QEMU themselves; pinned, through one channel between both agents; plain, in the clear, with a
warning. The first that both hosts can and their settings allow is taken.
Examples:
  virt-trust migrate web --from kvm1 --to kvm2 --plan
  virt-trust migrate web --from kvm1 --to kvm2 --mode tls,pinned --parallel 4
  virt-trust migrate web --from kvm1 --to kvm2 --copy-storage all --persistent --undefine-source
  virt-trust migrate --all --from kvm1
  virt-trust migrate --matrix --cluster rack1
Ctrl-C only stops watching (exit code 1); virt-trust job cancel ID cancels. --plan ends with 1 where something was found.
Further exit codes: virt-trust --help.
More: docs/migration.md`;

export function addMigrateCommand(program: Command): void {
  const command = program
    .command('migrate')
    .description('Migrate a VM, or all of a host, or see how they would')
    .argument('[vm]', 'the VM, by its name or UUID; none with --all and --matrix')
    .option('--from <host>', 'where it runs')
    .option('--to <host>', 'where it shall run; with --all several, in any order', collectNames)
    .option('--mode <modes>', 'in place of the order of the setting, such as tls,pinned', modeList)
    .option('--plan', 'only decide and check, with real handshakes, and say how to mend what is wrong')
    .option('--matrix', 'how VMs would migrate between all hosts')
    .option('--probe', 'with --matrix: make the handshakes, too')
    .option('--cluster <name>', 'with --matrix: only the hosts of a cluster')
    .option('--all', 'every VM that runs on the host --from')
    .option('--concurrency <n>', 'with --all: migrations at once, 1 to 64', integerBetween(1, 64))
    .option('--force', 'in spite of findings, but of none that makes it unsafe');
  addWishes(command);
  command.addOption(jsonOption()).addHelpText('after', HELP).action(migrate);
}

function addWishes(command: Command): void {
  const onOff = (name: string, words: string) =>
    command.addOption(new Option(`--${name}`, words)).addOption(new Option(`--no-${name}`).hideHelp());
  onOff('live', 'while it runs on');
  onOff('offline', 'only the definition of a VM that is off');
  onOff('persistent', 'define it on the destination, too');
  onOff('undefine-source', 'define it on the source no more');
  command
    .addOption(
      new Option('--copy-storage <how>', 'copy its disks: none, all of each, or inc, what differs').choices(
        MigrationOptions.properties.copyStorage.anyOf.map((one) => one.const),
      ),
    )
    .option('--copy-disks <targets>', 'only these disks, such as vda,vdb; with --copy-storage', diskList);
  onOff('post-copy', 'switch over after the first pass and fetch memory as it is used');
  command
    .option('--parallel <n>', 'connections at once, up to 64; 0 for one stream', integerBetween(0, 64))
    .addOption(
      new Option('--compress <method>', 'how memory is compressed').choices(
        Compression.anyOf.map((one) => one.const),
      ),
    );
  onOff('auto-converge', 'slow the VM down until the network keeps up');
  command
    .option(
      '--bandwidth <MiB/s>',
      'at most that much of the network; 0 for all',
      integerBetween(0, 1_000_000),
    )
    .option('--downtime <ms>', "longest pause at the end; 0 for QEMU's own", integerBetween(0, 2_000_000))
    .option(
      '--timeout <seconds>',
      'after which --timeout-action is taken; 0 for never',
      integerBetween(0, 604_800),
    )
    .addOption(
      new Option('--timeout-action <action>', 'what is done after --timeout').choices(
        TimeoutAction.anyOf.map((one) => one.const),
      ),
    )
    .option('--flags <n>', "added to libvirt's flags as they are, decimal or 0x...", rawFlags);
}

async function migrate(vm: string | undefined, options: MigrateOptions): Promise<void> {
  refuseMixed(vm, options);
  if (options.matrix === true) return await showMatrix(options);
  const { from = '', to = [] } = options;
  const client = managerClient();
  if (options.all === true) {
    const body = given({ to: options.to, concurrency: options.concurrency, ...wishOf(options) });
    return void (await followJob(
      client,
      await client.call(evacuateHost, { params: { name: from }, body }),
      options,
    ));
  }
  const body = {
    ...given({ force: options.force, ...wishOf(options) }),
    vm: vm ?? '',
    from,
    to: to[0] ?? '',
  };
  if (options.plan !== true)
    return void (await followJob(client, await client.call(createMigrationJob, { body }), options));
  const plan = await client.call(planMigration, { body });
  if (options.json === true) writeJson(plan);
  else writePlan(plan);
  if (!plan.ready) process.exitCode = 1;
}

async function showMatrix({ cluster, probe, json }: MigrateOptions): Promise<void> {
  const matrix = await managerClient().call(getMigrationMatrix, { query: given({ cluster, probe }) });
  // A word that was mistyped is not to pass for a cluster in which all is well.
  if (cluster !== undefined && matrix.hosts.length === 0)
    throw new TrustError(
      'cluster.empty',
      'not-found',
      `cannot show how VMs would migrate in cluster ${cluster}: no host is in it`,
      { hint: 'see them with: virt-trust host list' },
    );
  if (json === true) writeJson(matrix);
  else writeMatrix(matrix, cluster);
}

const OF_MATRIX: ReadonlySet<string> = new Set(['matrix', 'cluster', 'probe', 'json']);

/** The option of a key, as it is typed. */
function flagOf(key: string): string {
  return `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** Which words belong together; throws `cli.usage`. */
function refuseMixed(vm: string | undefined, options: MigrateOptions): void {
  const { matrix, all, plan, from, to = [] } = options;
  const only = (names: readonly (keyof MigrateOptions)[], belongsTo: string) => {
    const [wrong] = names.filter((name) => options[name] !== undefined);
    if (wrong !== undefined) throw usage(`--${wrong} belongs to --${belongsTo}`);
  };
  if (matrix === true) {
    if (vm !== undefined || all === true || plan === true || from !== undefined || to.length > 0)
      throw usage('--matrix is about all hosts: it takes no VM, --from, --to, --all or --plan');
    const [other] = Object.keys(options).filter((key) => !OF_MATRIX.has(key));
    if (other !== undefined) throw usage(`--matrix goes by the settings alone: it takes no ${flagOf(other)}`);
    return;
  }
  only(['probe', 'cluster'], 'matrix');
  if (from === undefined) throw usage('--from is missing: the host where it runs');
  if (all === true) {
    if (vm !== undefined) throw usage(`both a VM (${vm}) and --all are given`);
    if (plan === true) throw usage('--plan is for one VM; see virt-trust migrate --matrix');
    if (options.offline === true) throw usage('--all moves VMs that run, and --offline one that is off');
    if (options.force === true) throw usage('--force is for one VM');
    return;
  }
  only(['concurrency'], 'all');
  if (vm === undefined) throw usage('the VM is missing; --all means every one that runs there');
  if (to.length === 0) throw usage('--to is missing: the host where it shall run');
  if (to.length > 1) throw usage(`one VM goes to one host, and --to names ${to.join(', ')}`);
}

function usage(reason: string): TrustError {
  return new TrustError('cli.usage', 'invalid', `cannot migrate: ${reason}`, {
    hint: 'see: virt-trust migrate --help',
  });
}

/** What was said of how it is to go. */
function wishOf(options: MigrateOptions): Pick<EvacuateHost, 'mode'> & MigrationWish {
  return given({
    mode: options.mode,
    live: options.live,
    offline: options.offline,
    persistent: options.persistent,
    undefineSource: options.undefineSource,
    copyStorage: options.copyStorage,
    copyDisks: options.copyDisks,
    postCopy: options.postCopy,
    parallel: options.parallel,
    compression: options.compress,
    autoConverge: options.autoConverge,
    bandwidthMiB: options.bandwidth,
    downtimeMs: options.downtime,
    timeoutSeconds: options.timeout,
    timeoutAction: options.timeoutAction,
    flags: options.flags,
  });
}

function collectNames(value: string, previous: readonly string[] = []): string[] {
  return nameList(value).reduce((all, name) => collect(name, all), [...previous]);
}
