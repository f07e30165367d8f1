import { spawn } from 'node:child_process';
import { loadavg } from 'node:os';
import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import type { CrlFigures } from './crl-build.ts';
import { measureConsumers } from './crl-consumers.ts';
import type { Measurement, Suite } from './suite.ts';

const SIZES = [1000, 100_000] as const;
/** As aimed at, in milliseconds. */
const ONE_MORE = 30;

async function figuresFor(entries: number): Promise<CrlFigures> {
  const file = new URL('./crl-build.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, ['--expose-gc', file, String(entries)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  for await (const chunk of child.stdout) output += String(chunk);
  try {
    return JSON.parse(output) as CrlFigures;
  } catch (cause) {
    throw new TrustError('bench.child_failed', 'failed', 'cannot measure: crl-build.ts failed', { cause });
  }
}

const milliseconds = (value: number) => `${value < 10 ? value.toFixed(2) : value.toFixed(1)} ms`;
const megabytes = (value: number) => `${(value / 1e6).toFixed(1)} MB`;

function rowsOf(figures: CrlFigures): Measurement[] {
  const what = (text: string) => `${figures.entries} entries: ${text}`;
  const aim = `${(figures.oneMore / ONE_MORE).toFixed(2)} of the ${ONE_MORE} ms aimed at`;
  const floor = `${(figures.oneMore / figures.hashAlone).toFixed(2)} times signing the same octets`;
  return [
    { what: what('build, encode, sign'), value: milliseconds(figures.build) },
    { what: what('memory for it at most'), value: megabytes(figures.memory) },
    {
      what: what('one entry more, signed and encoded'),
      value: milliseconds(figures.oneMore),
      ratio: `${aim}, ${floor}`,
    },
    { what: what('size'), value: megabytes(figures.octets) },
    { what: what('parse'), value: milliseconds(figures.parse) },
    { what: what('look up a serial number'), value: milliseconds(figures.lookUp) },
  ];
}

const CONSUMERS =
  'On a host of the lab, by the programs that an operator would use: the time of the one that has the CRL read, less that of the same program when it has nothing read; medians of 9. QEMU’s start is `qemu-img` with the credentials of a migration’s destination, which loads them as a starting QEMU does.';

/** CRLs as they are published, and what they cost those who read them. */
export const crlSuite: Suite = {
  name: 'crl',
  title: 'Certificate revocation lists',
  async run(say) {
    const rows: Measurement[] = [];
    for (const size of SIZES) {
      say(`building CRLs of ${size} entries`);
      rows.push(...rowsOf(await figuresFor(size)));
    }
    const consumers = await measureConsumers(say).catch((error: unknown) => {
      if (!isTrustError(error, 'bench.no_lab')) throw error;
      say(error.message);
      return [];
    });
    rows.push(...consumers);
    return {
      rows,
      notes: [
        ...(consumers.length > 0 ? [CONSUMERS] : ['What CRLs cost on a host was left out: no lab here.']),
        `When it ended the machine’s load was ${(loadavg()[0] ?? 0).toFixed(1)}: what else runs on the cores is in the times.`,
        'EC P-256, serial numbers of 17 octets, each entry with a reason; medians of 5 (build, parse, look-up) and of 15 (one entry more, which appends to what is encoded already). Memory is what the process grew by for the first build, entries as objects not counted.',
      ],
    };
  },
};
