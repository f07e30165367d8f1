import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { TrustError } from '@virt-trust/base/error.ts';
import { askOwn, startOwn } from './child.ts';
import { median } from './figures.ts';
import type { LoadOrder, LoadResult } from './http-load.ts';
import { haveCfssl } from './issuance-peers.ts';
import { measureSigning } from './issuance-rates.ts';
import { startCfsslOcsp, startOpensslOcsp } from './ocsp-peers.ts';
import type { Measurement, Suite } from './suite.ts';

const CERTIFICATES = 1000;
const CONNECTIONS = 32;
const ROUNDS = 3;
const SECONDS = 3;
/** As aimed at. */
const OF_BARE = 0.8;
const OF_RAW = 0.5;

async function rateOf(
  port: number,
  path: string,
  bodies: readonly string[],
  more: Partial<LoadOrder> = {},
): Promise<number> {
  const order: LoadOrder = {
    port,
    path,
    headers: {},
    content: { type: 'application/ocsp-request', encoding: 'base64' },
    expectStatus: 200,
    connections: CONNECTIONS,
    warmUpSeconds: 1,
    seconds: SECONDS,
    ...more,
  };
  const { requests, seconds } = JSON.parse(
    await askOwn('./http-load-process.ts', JSON.stringify({ order, bodies })),
  ) as LoadResult;
  return requests / seconds;
}

async function answerTo(url: string, request: string): Promise<string> {
  const headers = { 'content-type': 'application/ocsp-request' };
  const body = Buffer.from(request, 'base64');
  const response = await fetch(`${url}/ocsp`, { method: 'POST', headers, body });
  if (response.status !== 200) {
    throw new TrustError('bench.unexpected_answer', 'failed', `cannot measure: answered ${response.status}`);
  }
  return Buffer.from(await response.arrayBuffer()).toString('base64');
}

interface Round {
  readonly shared: number;
  readonly bare: number;
  readonly nonce: number;
  readonly each: number;
  readonly openssl: number;
  readonly cfssl: number | undefined;
  readonly raw: number;
}

interface Servers {
  readonly url: string;
  readonly requests: readonly string[];
  readonly nonceRequests: readonly string[];
  readonly barePort: number;
  readonly cfsslPort: number | undefined;
  readonly openssl: { readonly port: number; readonly requests: readonly string[] };
}

/** Turn and turn about, so that what else the machine does falls on all. */
async function measureRound(servers: Servers): Promise<Round> {
  const { requests, nonceRequests, openssl, cfsslPort } = servers;
  const port = Number(new URL(servers.url).port);
  const each = { connect: 'each', connections: 8 } as const;
  return {
    bare: await rateOf(servers.barePort, '/', requests),
    shared: await rateOf(port, '/ocsp', requests),
    cfssl: cfsslPort === undefined ? undefined : await rateOf(cfsslPort, '/', requests),
    nonce: await rateOf(port, '/ocsp', nonceRequests),
    raw: (await measureSigning(1)).raw,
    each: await rateOf(port, '/ocsp', requests, each),
    openssl: await rateOf(openssl.port, '/', openssl.requests, each),
  };
}

const perSecond = (value: number) => `${Math.round(value)} /s`;

function rowsOf(rounds: readonly Round[]): Measurement[] {
  const middle = (pick: (round: Round) => number) => median(rounds.map(pick));
  const ratio = (left: (round: Round) => number, right: (round: Round) => number) =>
    median(rounds.map((round) => left(round) / right(round))).toFixed(2);
  const cfssl = rounds.every((round) => round.cfssl !== undefined);
  return [
    {
      what: 'bare Node HTTP server with the same octets',
      value: perSecond(middle(({ bare }) => bare)),
      ratio: '1.00',
    },
    {
      what: 'responder, signed beforehand',
      value: perSecond(middle(({ shared }) => shared)),
      ratio: `${ratio(
        ({ shared }) => shared,
        ({ bare }) => bare,
      )} of the bare server; at least ${OF_BARE} aimed at`,
    },
    ...(cfssl
      ? [
          {
            what: '`cfssl ocspserve`, signed beforehand',
            value: perSecond(middle((round) => round.cfssl ?? 0)),
            ratio: `responder is ${ratio(
              ({ shared }) => shared,
              (round) => round.cfssl ?? 0,
            )} times it`,
          },
        ]
      : []),
    {
      what: 'raw `crypto.sign`, P-256, one thread',
      value: perSecond(middle(({ raw }) => raw)),
      ratio: '1.00',
    },
    {
      what: 'responder, a nonce in each request, signed for it',
      value: perSecond(middle(({ nonce }) => nonce)),
      ratio: `${ratio(
        ({ nonce }) => nonce,
        ({ raw }) => raw,
      )} of raw signing; at least ${OF_RAW} aimed at`,
    },
    {
      what: 'responder, a connection for each request',
      value: perSecond(middle(({ each }) => each)),
    },
    {
      what: '`openssl ocsp`, a connection for each request, signed for it',
      value: perSecond(middle(({ openssl }) => openssl)),
      ratio: `responder is ${ratio(
        ({ each }) => each,
        ({ openssl }) => openssl,
      )} times it`,
    },
  ];
}

/** OCSP answers a second, by POST, EC P-256 throughout. */
export const ocspSuite: Suite = {
  name: 'ocsp',
  title: 'OCSP answers per second',
  async run(say) {
    const directory = mkdtempSync(join(tmpdir(), 'virt-trust-bench-'));
    const running: { stop(): Promise<void> }[] = [];
    try {
      say(`issuing ${CERTIFICATES} certificates`);
      const own = await startOwn('./ocsp-server.ts', [join(directory, 'manager'), String(CERTIFICATES)]);
      running.push(own);
      const { url, requests, nonceRequests } = JSON.parse(own.line) as Omit<Servers, 'barePort'>;
      const answers: string[] = [];
      for (const request of requests) answers.push(await answerTo(url, request));
      const bare = await startOwn('./ocsp-bare-server.ts', [answers[0] ?? '']);
      running.push(bare);
      for (const name of ['openssl', 'cfssl']) mkdirSync(join(directory, name));
      const openssl = await startOpensslOcsp(join(directory, 'openssl'), CERTIFICATES);
      running.push(openssl);
      const cfssl = haveCfssl(say) ? await startCfsslOcsp(join(directory, 'cfssl'), answers) : undefined;
      if (cfssl !== undefined) running.push(cfssl);
      const barePort = Number(bare.line);
      const servers = { url, requests, nonceRequests, barePort, cfsslPort: cfssl?.port, openssl };
      const rounds: Round[] = [];
      for (let round = 1; round <= ROUNDS; round++) {
        const one = await measureRound(servers);
        rounds.push(one);
        const figures = Object.entries(one).map(([name, value]) => `${name} ${Math.round(value ?? 0)}`);
        say(`round ${round}: ${figures.join(', ')}`);
      }
      return {
        rows: rowsOf(rounds),
        notes: [
          `POST from one load generator in a process of its own, ${CONNECTIONS} kept-alive connections with one request at a time each, ${CERTIFICATES} certificates in turn; median of ${ROUNDS} rounds of ${SECONDS} s after 1 s of warm-up, all servers in turn; ratios are medians of the rounds’ ratios. \`openssl ocsp\` closes each connection, so it and the responder beside it get a new one for each request, 8 at a time.`,
          `When it ended the machine’s load was ${(loadavg()[0] ?? 0).toFixed(1)}: what else runs on the cores is in the times, though hardly in those of raw signing, which are taken in fractions of a millisecond. Carrying a request over HTTP costs more than a signature: the bare server is what a responder of one thread could reach at most.`,
          'The responder is the listener of `serve --status-listen` of a manager with its store; answers are of about a kilobyte, with the responder’s certificate.',
        ],
      };
    } finally {
      for (const one of running) await one.stop();
      rmSync(directory, { recursive: true, force: true });
    }
  },
};
