import { loadavg } from 'node:os';
import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import type { Host } from '@virt-trust/lab/host.ts';
import { DelayLine, roundTrip } from './delay-line.ts';
import { median } from './figures.ts';
import { type Added, add, onLab, remove } from './on-lab.ts';
import type { Measurement, Suite } from './suite.ts';

const RUNS = 5;
const EACH_WAY_MS = 25;
const FLEET = 20;
const AIM_SECONDS = 10;

const seconds = (value: number) => `${value.toFixed(2)} s`;
const range = (values: readonly number[]) =>
  `${values.length} runs, ${seconds(Math.min(...values))} to ${seconds(Math.max(...values))}`;

/** What a run, or the median of several, took; by step of the job, what was before the first and between them last. */
interface Split {
  readonly total: number;
  readonly steps: ReadonlyMap<string, number>;
}

function splitOf(runs: readonly Added[]): Split {
  const names = runs[0]?.job.steps.map((step) => step.name) ?? [];
  const timeOf = ({ job }: Added, name: string) => {
    const step = job.steps.find((one) => one.name === name);
    return ((step?.finishedAt ?? 0) - (step?.startedAt ?? 0)) / 1000;
  };
  const steps = new Map(names.map((name) => [name, median(runs.map((run) => timeOf(run, name)))]));
  const around = runs.map((run) => run.seconds - names.reduce((sum, name) => sum + timeOf(run, name), 0));
  steps.set('SSH host key, request, between steps', median(around));
  return { total: median(runs.map((run) => run.seconds)), steps };
}

const stepRows = ({ total, steps }: Split, where: string): Measurement[] =>
  [...steps].map(([name, time]) => ({
    what: `${where}: ${name}`,
    value: seconds(time),
    ratio: `${Math.round((time / total) * 100)} %`,
  }));

/** Undefined where this machine can't make one, which is said. */
async function insertLine(host: Host, say: (line: string) => void) {
  const tripBefore = await roundTrip(host);
  try {
    const line = await DelayLine.insert(host, EACH_WAY_MS);
    return { tripBefore, [Symbol.asyncDispose]: () => line[Symbol.asyncDispose]() };
  } catch (error) {
    if (!isTrustError(error, 'bench.no_delay')) throw error;
    say(describeError(error));
    return undefined;
  }
}

async function measureOne(say: (line: string) => void) {
  return onLab({ name: 'bench-one', hosts: ['bench-a'], say }, async (bed) => {
    const host = bed.lab.host('bench-a');
    const measure = async (runs: Added[], what: string) => {
      const added = await add(bed, host);
      say(`${what}: ${seconds(added.seconds)}`);
      runs.push(added);
      await remove(bed, host);
    };
    const near: Added[] = [];
    const far: Added[] = [];
    const addedTrips: number[] = [];
    for (let round = 1; round <= RUNS; round++) {
      // Turn and turn about, so that what else the machine does falls on both.
      await measure(near, 'one host');
      await using line = await insertLine(host, say);
      if (line === undefined) continue;
      addedTrips.push((await roundTrip(host)) - line.tripBefore);
      await measure(far, `one host, ${addedTrips.at(-1)?.toFixed(1)} ms more`);
    }
    return { near, far, addedTrip: median(addedTrips) };
  });
}

async function measureFleet(say: (line: string) => void) {
  const hosts = Array.from({ length: FLEET }, (_, index) => `bench-${index + 1}`);
  return onLab({ name: 'bench-fleet', hosts, say }, async (bed) => {
    const began = performance.now();
    const all = await Promise.all(bed.lab.hosts.map((host) => add(bed, host)));
    const total = (performance.now() - began) / 1000;
    say(`${FLEET} hosts at once: ${seconds(total)}`);
    return { all, total };
  });
}

/** From `host add` to every service proven by handshake, the copy of the program included. */
export const enrolmentSuite: Suite = {
  name: 'enrolment',
  title: 'From host add to proven handshakes',
  async run(say) {
    const [load = 0] = loadavg();
    const { near, far, addedTrip } = await measureOne(say);
    const fleet = await measureFleet(say);
    const one = splitOf(near);
    const delayed = far.length > 0 ? splitOf(far) : undefined;
    const each = splitOf(fleet.all);
    return {
      rows: [
        {
          what: `one host (${range(near.map((run) => run.seconds))})`,
          value: seconds(one.total),
          ratio: `${(one.total / AIM_SECONDS).toFixed(2)} of the ${AIM_SECONDS} s aimed at`,
        },
        ...(delayed === undefined
          ? []
          : [
              {
                what: `one host, ${addedTrip.toFixed(1)} ms more round trip (${range(far.map((run) => run.seconds))})`,
                value: seconds(delayed.total),
                ratio: `${(delayed.total / one.total).toFixed(2)} times one host`,
              },
            ]),
        {
          what: `${FLEET} hosts at once, until the last`,
          value: seconds(fleet.total),
          ratio: `${(fleet.total / FLEET / one.total).toFixed(2)} times one host, each`,
        },
        ...stepRows(one, 'one host'),
        ...(delayed === undefined ? [] : stepRows(delayed, 'delayed')),
        ...stepRows(each, `of ${FLEET} at once`),
      ],
      notes: [
        `Hosts of the lab: booted Debian with systemd, sshd and libvirtd, on the cores of this machine together with the manager; the program is absent on each before it. When it began the machine's load was ${load.toFixed(1)}: what else runs on the cores is in the times. Medians of runs; in the rows of steps the ratio is the share of the time of one host.`,
        delayed === undefined
          ? 'The longer round trip was left out: this machine cannot make tap interfaces.'
          : `The longer round trip is made by a program that carries every Ethernet frame between two tap interfaces ${EACH_WAY_MS} ms late each way, measured by TCP's handshake; it takes its share of the cores too.`,
        `The ${FLEET} hosts are booted ones, none is simulated; all share the cores, so their sum measures work more than waiting.`,
      ],
    };
  },
};
