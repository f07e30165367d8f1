import { loadavg } from 'node:os';
import { createMigrationJob } from '@virt-trust/contract/manager/migration-operations.ts';
import type { MigrateVm } from '@virt-trust/contract/model/migration.ts';
import type { MigrationMode } from '@virt-trust/contract/model/migration-options.ts';
import { setUpAsFound } from '@virt-trust/lab/adoptable.ts';
import { type Guest, receiveGuest, startGuest } from '@virt-trust/lab/guest/guest.ts';
import type { Host } from '@virt-trust/lab/host.ts';
import { median } from './figures.ts';
import { type IdleMemory, MemoryWatch } from './memory-watch.ts';
import { add, type Bed, finish, onLab } from './on-lab.ts';
import type { Measurement, Suite, SuiteResult } from './suite.ts';

const ROUNDS = 3;
/** No round of a workload begins after this, so that all of it ends in some ten minutes. */
const WORKLOAD_MS = 150_000;
const MOST_GROWTH_MB = 64;
const LEAST_THROUGHPUT = 0.8;
const MOST_CPU = 1.3;
const MIB = 2 ** 20;

/** `native` is what the modes are measured against: `virsh migrate --tls` by hand, with nothing of ours taking part. */
type Way = 'native' | MigrationMode;
const WAYS: readonly Way[] = ['native', 'tls', 'pinned', 'plain'];

interface Workload {
  readonly what: string;
  readonly guest: Guest;
  readonly wish: Partial<MigrateVm>;
  /** The same for virsh(1). */
  readonly virsh: readonly string[];
}

const BIG: Guest = { name: 'big', memoryMiB: 2048, workingSetMiB: 512, dirtyMiBPerSecond: 20 };
const STORED: Guest = {
  name: 'stored',
  memoryMiB: 512,
  dirtyMiBPerSecond: 20,
  disk: { format: 'qcow2', sizeMiB: 1024 },
};
const WORKLOADS: readonly Workload[] = [
  { what: '2 GiB', guest: BIG, wish: {}, virsh: [] },
  {
    what: '2 GiB, `--parallel 4`',
    guest: BIG,
    wish: { parallel: 4 },
    virsh: ['--parallel', '--parallel-connections', '4'],
  },
  {
    what: '512 MiB and a disk of 1 GiB copied',
    guest: STORED,
    wish: { copyStorage: 'all' },
    virsh: ['--copy-storage-all'],
  },
];

interface Run {
  /** From the request to the news of its end. */
  readonly wall: number;
  /** Of all processes of both hosts meanwhile. */
  readonly cpu: number;
  /** Memory as libvirt counted it, and the disk, by the time that the transfer took. */
  readonly mibPerSecond: number;
}

type Grown = Awaited<ReturnType<MemoryWatch['stop']>>;

/** What was measured of a workload so far. */
interface Measured {
  readonly what: string;
  readonly runs: Runs;
  /** Of whole rounds, by process: the most of all runs of that way. */
  readonly memory: Map<Way, Grown>;
}

/** Of each way, its runs in the order of the rounds. */
type Runs = Record<Way, Run[]>;

/** Migrates a guest and counts what all processes of both hosts took for it. */
async function migrate(
  { client, signal }: Bed,
  [from, to]: readonly [Host, Host],
  { guest, wish, virsh }: Workload,
  way: Way,
): Promise<Run> {
  const cpu = async () => (await from.cpuSeconds()) + (await to.cpuSeconds());
  await receiveGuest(to, guest);
  const [before, began] = [await cpu(), performance.now()];
  if (way === 'native') {
    const where = [guest.name, `qemu+tcp://${to.address}/system`, '--migrateuri', `tcp://${to.address}`];
    await from.run(['virsh', 'migrate', '--live', '--tls', ...virsh, ...where], { signal });
  } else {
    const body = { vm: guest.name, from: from.name, to: to.name, mode: [way], ...wish };
    await finish(client, await client.call(createMigrationJob, { body }, { signal }), signal);
  }
  const wall = (performance.now() - began) / 1000;
  const spent = (await cpu()) - before;
  const stats = await to.run(['virsh', 'domjobinfo', guest.name, '--completed', '--rawstats']);
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)$`, 'm').exec(stats)?.[1] ?? 0);
  const moved = field('memory_processed') / MIB + (guest.disk?.sizeMiB ?? 0);
  return { wall, cpu: spent, mibPerSecond: moved / (field('time_elapsed') / 1000) };
}

/** Rounds in which the ways take turns, told of after each. */
async function measure(
  bed: Bed,
  workload: Workload,
  idle: IdleMemory,
  say: (line: string) => void,
  onRound: (measured: Measured) => void,
): Promise<Measured> {
  const hosts: [Host, Host] = [bed.lab.host('bench-a'), bed.lab.host('bench-b')];
  const { what } = workload;
  await startGuest(hosts[0], workload.guest);
  const measured: Measured = {
    what,
    runs: { native: [], tls: [], pinned: [], plain: [] },
    memory: new Map(),
  };
  const began = performance.now();
  for (let round = 1; round <= ROUNDS; round++) {
    if (round > 1 && performance.now() - began > WORKLOAD_MS) break;
    const ofRound: [Way, Run, Grown][] = [];
    for (const way of WAYS) {
      // It watches every way, so that it disturbs each as much.
      const watch = await MemoryWatch.start(hosts, idle);
      let grown: Grown | undefined;
      const run = await migrate(bed, hosts, workload, way).finally(async () => {
        grown = await watch.stop();
      });
      ofRound.push([way, run, grown ?? new Map()]);
      hosts.reverse();
      say(
        `${what}, ${way}, round ${round}: ${run.wall.toFixed(1)} s, ${run.mibPerSecond.toFixed(0)} MiB/s, CPU ${run.cpu.toFixed(1)} s; load ${loadavg()[0]?.toFixed(1)}`,
      );
    }
    for (const [way, run, grown] of ofRound) {
      measured.runs[way].push(run);
      if (way !== 'native') measured.memory.set(way, mostOf(measured.memory.get(way), grown));
    }
    onRound(measured);
  }
  await hosts[0].run(['virsh', 'destroy', workload.guest.name]);
  return measured;
}

function mostOf(before: Grown | undefined, now: Grown): Grown {
  const processes = new Set([...(before?.keys() ?? []), ...now.keys()]);
  const most = (process: string, figure: 'grown' | 'most') =>
    Math.max(before?.get(process)?.[figure] ?? 0, now.get(process)?.[figure] ?? 0);
  return new Map(
    [...processes].map((process) => [
      process,
      { grown: most(process, 'grown'), most: most(process, 'most') },
    ]),
  );
}

/** Pair by pair, since the machine's speed drifts. */
function ratio(runs: Runs, way: Way, base: Way, figure: keyof Run): string {
  const ratios = runs[way].map((run, index) => run[figure] / (runs[base][index]?.[figure] ?? Number.NaN));
  return median(ratios).toFixed(2);
}

function rowsOf(what: string, runs: Runs): Measurement[] {
  return WAYS.map((way) => {
    const middle = (figure: keyof Run) => median(runs[way].map((run) => run[figure]));
    const against = (base: Way) =>
      `${ratio(runs, way, base, 'mibPerSecond')} of ${base}’s throughput, ${ratio(runs, way, base, 'cpu')} of its CPU`;
    const aims =
      way === 'pinned' ? ` (at least ${LEAST_THROUGHPUT} and at most ${MOST_CPU} are aimed at)` : '';
    return {
      what: `${what}, ${way}`,
      value: `${middle('mibPerSecond').toFixed(0)} MiB/s; ${middle('wall').toFixed(1)} s in all; CPU ${middle('cpu').toFixed(1)} s`,
      ratio: way === 'native' ? '1.00' : `${against('native')}; ${against('tls')}${aims}`,
    };
  });
}

const NAMES: Readonly<Record<string, string>> = { run: 'agent', conduct: 'conductor', relay: 'relay' };

function memoryRowsOf({ what, memory }: Measured): Measurement[] {
  return [...memory].flatMap(([way, seen]) =>
    [...seen].map(([process, { grown, most }]) => ({
      what: `${what}, ${way}: memory of the ${NAMES[process]}`,
      value: `${grown.toFixed(1)} MB more, ${most.toFixed(1)} MB at most`,
      ratio: `${(grown / MOST_GROWTH_MB).toFixed(2)} of the ${MOST_GROWTH_MB} MB aimed at`,
    })),
  );
}

function resultOf(all: readonly Measured[], isWhole: boolean): SuiteResult {
  const rounds = all.map(({ what, runs }) => `${what}: ${runs.native.length}`).join('; ');
  return {
    rows: [
      ...all.flatMap(({ what, runs }) => rowsOf(what, runs)),
      ...all.flatMap((measured) => memoryRowsOf(measured)),
    ],
    notes: [
      `Two hosts of the lab under software emulation, on the machine’s cores together with the manager. The guests’ memory is incompressible, and they dirty it at 20 MiB/s (of the 2 GiB one, 512 MiB of it). \`native\` is \`virsh migrate --tls\` by hand, libvirt’s calls over plain TCP; the others are the modes, as \`virt-trust migrate\` has them. Medians of rounds in which the ways take turns; ratios are medians of the ratios within a round. Rounds: ${rounds}.${isWhole ? '' : ' It was stopped before its end.'}`,
      'Throughput is memory as libvirt counts it, and the disk, by the time that libvirt says the transfer took; the time in all is that of the whole job, with its checks before and the truth after. CPU is that of all processes of both hosts from control groups: QEMU with the guest in it, libvirtd, agents, conductor, relay.',
      'Memory is RssAnon, the most of both hosts and all rounds: what the agent holds beyond what it held before the first migration, and what the conductor and the relay, which are processes of one migration, hold beyond what they held when they were first seen (at most 0.15 s old).',
      `When it ended the machine’s load was ${loadavg()[1]?.toFixed(1)}: what else runs on the cores is in the times.`,
    ],
  };
}

/** How fast VMs migrate in each mode, and what that takes. */
export const migrationSuite: Suite = {
  name: 'migration',
  title: 'Migration in three modes',
  run: (say, keep) =>
    onLab({ name: 'bench-migration', hosts: ['bench-a', 'bench-b'], say }, async (bed) => {
      const hosts = [bed.lab.host('bench-a'), bed.lab.host('bench-b')];
      // Plain TCP stays beside TLS as long as nobody passes the gate that takes it away.
      await setUpAsFound(hosts, { libvirt: 'tcp', qemuTls: false });
      for (const host of hosts) await add(bed, host);
      say('both hosts are enrolled');
      const all: Measured[] = [];
      const idle: IdleMemory = new Map();
      for (const workload of WORKLOADS)
        all.push(await measure(bed, workload, idle, say, (now) => keep(resultOf([...all, now], false))));
      return resultOf(all, true);
    }),
};
