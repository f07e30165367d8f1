import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import { addressChangeSuite } from './address-change.ts';
import { agentMemorySuite } from './agent-memory.ts';
import { crlSuite } from './crl.ts';
import { enrolmentSuite } from './enrolment.ts';
import { issuanceSuite } from './issuance.ts';
import { matrixSuite } from './matrix.ts';
import { migrationSuite } from './migration.ts';
import { ocspSuite } from './ocsp.ts';
import { renewalsSuite } from './renewals.ts';
import { replaceSection } from './results.ts';
import { revocationSuite } from './revocation.ts';
import type { Suite, SuiteResult } from './suite.ts';

const SUITES: readonly Suite[] = [
  issuanceSuite,
  ocspSuite,
  crlSuite,
  enrolmentSuite,
  renewalsSuite,
  revocationSuite,
  addressChangeSuite,
  agentMemorySuite,
  migrationSuite,
  matrixSuite,
];
const RESULTS = fileURLToPath(new URL('../RESULTS.md', import.meta.url));

const wanted = process.argv.slice(2);
const unknown = wanted.find((name) => !SUITES.some((suite) => suite.name === name));
if (unknown !== undefined) {
  console.error(`error: cannot run suite ${unknown}: there is none of that name`);
  console.error(`hint: use ${SUITES.map(({ name }) => name).join(', ')}, or none for all`);
  process.exit(64);
}
for (const suite of SUITES) {
  if (wanted.length > 0 && !wanted.includes(suite.name)) continue;
  console.log(`${suite.title}:`);
  try {
    const result = await suite.run(
      (line) => console.log(`  ${line}`),
      (soFar) => write(suite, soFar),
    );
    for (const { what, value, ratio } of result.rows) console.log(`  ${what}: ${value} (${ratio ?? '-'})`);
    write(suite, result);
  } catch (error) {
    console.error(`error: ${suite.name}: ${describeError(error)}`);
    if (isTrustError(error, 'bench.interrupted')) break;
    process.exitCode = 1;
  }
}

function write(suite: Suite, result: SuiteResult): void {
  const text = existsSync(RESULTS) ? readFileSync(RESULTS, 'utf8') : '# Benchmarks\n';
  const command = `npm run bench -- ${suite.name}`;
  const machine = `Node ${process.version}, ${availableParallelism()} cores`;
  writeFileSync(RESULTS, replaceSection(text, suite, result, { at: new Date(), command, machine }));
}
