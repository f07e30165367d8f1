import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { askOwn, startOwn } from './child.ts';
import type { LoadOrder, LoadResult } from './http-load.ts';
import { haveCfssl, measureOpensslCa, startCfssl } from './issuance-peers.ts';
import { measureSigning } from './issuance-rates.ts';
import { hostNames, makeRequests } from './issuance-requests.ts';
import type { Measurement, Suite } from './suite.ts';

const HOSTS = 10_000;
/** Requests at a time: what a fleet sends when it renews, and one host after the other. */
const CONNECTIONS = [64, 8] as const;
const ROUNDS = 3;
const SECONDS = 4;

/** The rate for each number of connections. */
async function ratesOf(
  order: Omit<LoadOrder, 'connections' | 'warmUpSeconds' | 'seconds'>,
  bodies: string[],
): Promise<number[]> {
  const rates: number[] = [];
  for (const connections of CONNECTIONS) {
    const whole: LoadOrder = { ...order, connections, warmUpSeconds: 2, seconds: SECONDS };
    const answer = await askOwn('./http-load-process.ts', JSON.stringify({ order: whole, bodies }));
    const { requests, seconds } = JSON.parse(answer) as LoadResult;
    rates.push(requests / seconds);
  }
  return rates;
}

async function measureManager(directory: string, requests: readonly string[]): Promise<number[]> {
  const child = await startOwn('./issuance-manager.ts', [directory, String(HOSTS)]);
  try {
    const { url, token } = JSON.parse(child.line) as { url: string; token: string };
    return await ratesOf(
      {
        port: Number(new URL(url).port),
        path: '/api/v1/certificates',
        headers: { authorization: `Bearer ${token}` },
        expectStatus: 201,
      },
      requests.map((csr, index) => JSON.stringify({ host: `host${index}`, service: 'libvirt', csr })),
    );
  } finally {
    await child.stop();
  }
}

async function measureCfssl(directory: string, requests: readonly string[]): Promise<number[]> {
  const child = await startCfssl(directory);
  try {
    return await ratesOf(
      { port: child.port, path: '/api/v1/cfssl/sign', headers: {}, expectStatus: 200 },
      requests.map((csr, index) => {
        const { dns, addresses } = hostNames(index);
        return JSON.stringify({ certificate_request: csr, hosts: [...dns, ...addresses] });
      }),
    );
  } finally {
    await child.stop();
  }
}

const median = (values: readonly number[]) => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
const perSecond = (value: number) => `${value < 100 ? value.toFixed(1) : Math.round(value)} /s`;

/** Certificates a second, EC P-256 throughout, ours recorded and synced before each answer. */
export const issuanceSuite: Suite = {
  name: 'issuance',
  title: 'Certificates issued per second',
  async run(say) {
    const directory = mkdtempSync(join(tmpdir(), 'virt-trust-bench-'));
    try {
      say(`Making ${HOSTS} keys and requests ...`);
      const requests = await makeRequests(HOSTS);
      const withCfssl = haveCfssl(say);
      const ours: number[][] = [];
      const cfssl: number[][] = [];
      for (let round = 1; round <= ROUNDS; round++) {
        // Turn and turn about, so that what else the machine does falls on both.
        ours.push(await measureManager(join(directory, `manager-${round}`), requests));
        if (withCfssl) cfssl.push(await measureCfssl(join(directory, `cfssl-${round}`), requests));
        for (const [index, connections] of CONNECTIONS.entries()) {
          const [own, other] = [ours.at(-1)?.[index] ?? 0, cfssl.at(-1)?.[index] ?? 0];
          say(
            `round ${round}, ${connections} connections: manager ${perSecond(own)}, cfssl ${perSecond(other)}`,
          );
        }
      }
      const openssl = measureOpensslCa(join(directory, 'openssl'), requests, SECONDS);
      say(`openssl ca: ${perSecond(openssl)}`);
      const { raw, pki } = await measureSigning(6);
      const own = median(ours.map(([rate = 0]) => rate));
      const rows: Measurement[] = [
        { what: 'raw `crypto.sign`, P-256', value: perSecond(raw), ratio: '1.00' },
        {
          what: '`pki` alone: lint and sign',
          value: perSecond(pki),
          ratio: `${(pki / raw).toFixed(2)} of raw`,
        },
        ...CONNECTIONS.flatMap((connections, index) => {
          const mine = median(ours.map((rates) => rates[index] ?? 0));
          const theirs = median(cfssl.map((rates) => rates[index] ?? 0));
          const ratios = ours.map((rates, round) => (rates[index] ?? 0) / (cfssl[round]?.[index] ?? 0));
          const manager: Measurement = {
            what: `manager over HTTP, recorded and synced, ${connections} at a time`,
            value: perSecond(mine),
            ratio: `${(mine / raw).toFixed(3)} of raw`,
          };
          const peer: Measurement = {
            what: `\`cfssl serve\` over HTTP, recording nothing, ${connections} at a time`,
            value: perSecond(theirs),
            ratio: `manager is ${median(ratios).toFixed(2)} times it`,
          };
          return withCfssl ? [manager, peer] : [manager];
        }),
        {
          what: '`openssl ca`, a process each',
          value: perSecond(openssl),
          ratio: `manager is ${(own / openssl).toFixed(0)} times it`,
        },
      ];
      return {
        rows,
        notes: [
          `Kept-alive connections from one load generator in a process of its own, one request at a time on each; ${HOSTS} requests, each with a key of its own; median of ${ROUNDS} rounds of ${SECONDS} s after 2 s of warm-up, manager and cfssl in turn; the ratio is the median of the rounds’ ratios.`,
          ...(withCfssl ? [] : ['cfssl was left out: it is not installed, and only root can install it.']),
        ],
      };
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  },
};
