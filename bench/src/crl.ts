import { spawn } from 'node:child_process';
import { TrustError } from '@virt-trust/base/error.ts';
import type { CrlFigures } from './crl-build.ts';
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
    return {
      rows,
      notes: [
        'EC P-256, serial numbers of 17 octets, each entry with a reason; medians of 5 (build, parse, look-up) and of 15 (one entry more, which appends to what is encoded already). Memory is what the process grew by for the first build, entries as objects not counted.',
      ],
    };
  },
};
