import { loadavg } from 'node:os';
import { systemClock } from '@virt-trust/base/clock.ts';
import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { failureOf, isOver, jobChanges } from '@virt-trust/cli/job-watch.ts';
import { probeLibvirt } from '@virt-trust/connect/probe-libvirt.ts';
import { provisionHost } from '@virt-trust/contract/manager/host-operations.ts';
import { revokeHost } from '@virt-trust/contract/manager/lifecycle-operations.ts';
import { createMigrationJob } from '@virt-trust/contract/manager/migration-operations.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import type { Host } from '@virt-trust/lab/host.ts';
import { type StolenClient, stealClient } from '@virt-trust/lab/stolen-client.ts';
import { until } from '@virt-trust/lab/until.ts';
import { startVm } from '@virt-trust/lab/vm.ts';
import { median } from './figures.ts';
import { add, type Bed, onLab } from './on-lab.ts';
import type { Suite } from './suite.ts';

const RUNS = 7;
const AIM_SECONDS = 5;
const VM = 'bench';
const LIMIT_MS = 60_000;

/** Seconds from the command. */
interface Run {
  /** Until the other host's libvirtd refuses the revoked host's client. */
  readonly connection: number;
  /** Until the other host's QEMU reads the CRL with its next migration. */
  readonly migration: number;
  /** Until the job has proven it on every host. */
  readonly proven: number;
}

async function finished({ client, signal }: Bed, job: Job): Promise<void> {
  for await (const change of jobChanges(client, job, signal)) {
    if (!isOver(change)) continue;
    if (change.state !== 'done') throw failureOf(change);
    return;
  }
  throw new TrustError('bench.no_end', 'failed', `cannot see the end of job ${job.id}`);
}

async function migrate(bed: Bed, from: Host, to: Host): Promise<void> {
  const body = { vm: VM, from: from.name, to: to.name };
  await finished(bed, await bed.client.call(createMigrationJob, { body }));
}

async function isLetIn(host: Host, trust: string, client: StolenClient): Promise<boolean> {
  try {
    await probeLibvirt({
      host: host.address,
      port: 16514,
      serverName: host.address,
      trust,
      client,
      clock: systemClock,
      timeoutMs: 10_000,
    });
    return true;
  } catch (error) {
    if (isTrustError(error, 'probe.confirmation')) return false;
    throw error;
  }
}

/** One revocation of `bad`, which is provisioned again afterwards; the VM is on it before and after. */
async function measure(bed: Bed, good: Host, bad: Host): Promise<Run> {
  const client = await stealClient(bad, () => migrate(bed, bad, good));
  await migrate(bed, good, bad);
  const trust = await good.readFile('/etc/pki/CA/cacert.pem');
  const crl = () => good.readFile('/etc/pki/libvirt-migrate/ca-crl.pem');
  const before = await crl();
  const began = performance.now();
  const seconds = () => (performance.now() - began) / 1000;
  const job = await bed.client.call(revokeHost, {
    params: { name: bad.name },
    body: { reason: 'keyCompromise' },
  });
  const [connection, migration, proven] = await Promise.all([
    until('see the client refused', LIMIT_MS, async () =>
      (await isLetIn(good, trust, client)) ? undefined : seconds(),
    ),
    until('see the CRL of migrations', LIMIT_MS, async () =>
      (await crl()) === before ? undefined : seconds(),
    ),
    finished(bed, job).then(seconds),
  ]);
  await finished(bed, await bed.client.call(provisionHost, { params: { name: bad.name }, body: {} }));
  return { connection, migration, proven };
}

/** From the command that revokes a host to its being refused by another. */
export const revocationSuite: Suite = {
  name: 'revocation',
  title: 'From host revoke to refusal',
  async run(say) {
    const [load = 0] = loadavg();
    const runs = await onLab(
      { name: 'bench-revocation', hosts: ['bench-a', 'bench-b'], say },
      async (bed) => {
        const [good, bad] = [bed.lab.host('bench-a'), bed.lab.host('bench-b')];
        await Promise.all([add(bed, good), add(bed, bad)]);
        await startVm(bad, { name: VM });
        const all: Run[] = [];
        for (let round = 1; round <= RUNS; round++) {
          const run = await measure(bed, good, bad);
          say(
            `refused after ${run.connection.toFixed(2)} s, migrations after ${run.migration.toFixed(2)} s, proven after ${run.proven.toFixed(2)} s`,
          );
          all.push(run);
        }
        return all;
      },
    );
    const row = (what: string, values: readonly number[]) => ({
      what: `${what} (${values.length} runs, ${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)} s)`,
      value: `${median(values).toFixed(2)} s`,
      ratio: `${(median(values) / AIM_SECONDS).toFixed(2)} of the ${AIM_SECONDS} s aimed at`,
    });
    return {
      rows: [
        row(
          "libvirt connection with the revoked host's client certificate refused",
          runs.map((run) => run.connection),
        ),
        row(
          'CRL in place that QEMU reads at the next migration',
          runs.map((run) => run.migration),
        ),
        row(
          'proven on every host by a canary',
          runs.map((run) => run.proven),
        ),
      ],
      notes: [
        `Two booted hosts of the lab and the manager on the cores of this machine, whose load was ${load.toFixed(1)} when it began; times are from the request to the manager's API, seen from outside by dialling again and again. Medians.`,
      ],
    };
  },
};
