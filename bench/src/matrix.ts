import { TrustError } from '@virt-trust/base/error.ts';
import { getMigrationMatrix } from '@virt-trust/contract/manager/migration-operations.ts';
import type { MigrationMatrix } from '@virt-trust/contract/model/migration-plan.ts';
import { median } from './figures.ts';
import { type SimulatedFleet, withSimulatedFleet } from './simulated-fleet.ts';
import type { Suite } from './suite.ts';

const HOSTS = 100;
const SMALL = 25;
const ROUNDS = 5;
const AIM_SECONDS = 10;

/** Asks for the matrix and holds it to what a fleet without a fault must have. */
async function ask(
  { client }: SimulatedFleet,
  hosts: number,
  cluster?: string,
): Promise<{ readonly seconds: number; readonly matrix: MigrationMatrix }> {
  const began = performance.now();
  const matrix = await client.call(getMigrationMatrix, { query: cluster === undefined ? {} : { cluster } });
  const seconds = (performance.now() - began) / 1000;
  const wrong = matrix.pairs.find(({ mode, ready }) => mode !== 'tls' || !ready);
  if (wrong !== undefined || matrix.pairs.length !== hosts * (hosts - 1))
    throw new TrustError(
      'bench.not_ready',
      'failed',
      `cannot measure: ${matrix.pairs.length} pairs, ${wrong?.from} to ${wrong?.to}: ${wrong?.detail}`,
    );
  return { seconds, matrix };
}

async function rounds(fleet: SimulatedFleet, hosts: number, cluster?: string): Promise<number[]> {
  const all: number[] = [];
  while (all.length < ROUNDS) all.push((await ask(fleet, hosts, cluster)).seconds);
  return all;
}

/** How VMs would migrate between all hosts, through the HTTP API. */
export const matrixSuite: Suite = {
  name: 'matrix',
  title: 'The matrix of migrations between all hosts',
  run: (say) =>
    withSimulatedFleet(
      { hosts: HOSTS, clusterOf: (index) => (index < SMALL ? 'small' : 'large') },
      say,
      async (fleet) => {
        const first = await ask(fleet, HOSTS);
        const bytes = JSON.stringify(first.matrix).length;
        const [all, small] = [await rounds(fleet, HOSTS), await rounds(fleet, SMALL, 'small')];
        const [allPairs, smallPairs] = [HOSTS * (HOSTS - 1), SMALL * (SMALL - 1)];
        const perPair = (seconds: number, pairs: number) => (seconds / pairs) * 1e6;
        return {
          rows: [
            {
              what: `${HOSTS} hosts, ${allPairs} pairs, the first answer`,
              value: `${first.seconds.toFixed(2)} s`,
              ratio: `${(first.seconds / AIM_SECONDS).toFixed(2)} of the ${AIM_SECONDS} s aimed at`,
            },
            {
              what: `${HOSTS} hosts, ${allPairs} pairs, median of ${ROUNDS} more`,
              value: `${median(all).toFixed(2)} s`,
              ratio: `${(median(all) / AIM_SECONDS).toFixed(2)} of the ${AIM_SECONDS} s aimed at`,
            },
            {
              what: `a pair of ${HOSTS} hosts`,
              value: `${perPair(median(all), allPairs).toFixed(0)} us`,
              ratio: `${(perPair(median(all), allPairs) / perPair(median(small), smallPairs)).toFixed(2)} times a pair of ${SMALL} hosts`,
            },
          ],
          notes: [
            `Asked over HTTP as \`virt-trust migrate --matrix\` does, with the answer of ${(bytes / 2 ** 20).toFixed(1)} MiB checked and parsed by the client in the same process. The hosts are simulated agents with real certificates; the manager judges by what they reported and asks none of them.`,
          ],
        };
      },
    ),
};
