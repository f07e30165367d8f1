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
const CONNECTIONS = 8;
const ROUNDS = 3;
const SECONDS = 4;

async function rateOf(order: Omit<LoadOrder, 'connections' | 'warmUpSeconds' | 'seconds'>, bodies: string[]) {
  const whole: LoadOrder = { ...order, connections: CONNECTIONS, warmUpSeconds: 1, seconds: SECONDS };
  const answer = await askOwn('./http-load-process.ts', JSON.stringify({ order: whole, bodies }));
  const { requests, seconds } = JSON.parse(answer) as LoadResult;
  return requests / seconds;
}

async function measureManager(directory: string, requests: readonly string[]): Promise<number> {
  const child = await startOwn('./issuance-manager.ts', [directory, String(HOSTS)]);
  try {
    const { url, token } = JSON.parse(child.line) as { url: string; token: string };
    return await rateOf(
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

async function measureCfssl(directory: string, requests: readonly string[]): Promise<number> {
  const child = await startCfssl(directory);
  try {
    return await rateOf(
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

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
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
      const ours: number[] = [];
      const cfssl: number[] = [];
      for (let round = 1; round <= ROUNDS; round++) {
        // Turn and turn about, so that what else the machine does falls on both.
        ours.push(await measureManager(join(directory, `manager-${round}`), requests));
        if (withCfssl) cfssl.push(await measureCfssl(join(directory, `cfssl-${round}`), requests));
        say(`round ${round}: manager ${perSecond(ours.at(-1) ?? 0)}, cfssl ${perSecond(cfssl.at(-1) ?? 0)}`);
      }
      const openssl = measureOpensslCa(join(directory, 'openssl'), requests, SECONDS);
      say(`openssl ca: ${perSecond(openssl)}`);
      const { raw, pki } = await measureSigning(1);
      const own = mean(ours);
      const rows: Measurement[] = [
        { what: 'raw `crypto.sign`, P-256', value: perSecond(raw), ratio: '1.00' },
        {
          what: '`pki` alone: lint and sign',
          value: perSecond(pki),
          ratio: `${(pki / raw).toFixed(2)} of raw`,
        },
        {
          what: 'manager over HTTP, recorded and synced',
          value: perSecond(own),
          ratio: `${(own / raw).toFixed(3)} of raw`,
        },
        ...(withCfssl
          ? [
              {
                what: '`cfssl serve` over HTTP, recording nothing',
                value: perSecond(mean(cfssl)),
                ratio: `manager is ${(own / mean(cfssl)).toFixed(2)} times it`,
              },
            ]
          : []),
        {
          what: '`openssl ca`, a process each',
          value: perSecond(openssl),
          ratio: `manager is ${(own / openssl).toFixed(0)} times it`,
        },
      ];
      return {
        rows,
        notes: [
          `${CONNECTIONS} kept-alive connections from one load generator in a process of its own; ${HOSTS} requests, each with a key of its own; mean of ${ROUNDS} rounds of ${SECONDS} s after 1 s of warm-up, manager and cfssl in turn.`,
          ...(withCfssl ? [] : ['cfssl was left out: it is not installed, and only root can install it.']),
        ],
      };
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  },
};
