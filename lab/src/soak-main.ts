import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { exitCodeOf } from '@virt-trust/cli/exit-code.ts';
import { writeError } from '@virt-trust/cli/output.ts';
import { canBootLab } from './capability.ts';
import { listenForInterruption } from './demo/interruption.ts';
import { parseSoakOptions, type SoakOptions, USAGE } from './soak/options.ts';
import { soak } from './soak/soak.ts';

const interruption = listenForInterruption();
process.exitCode = await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<number> {
  try {
    const options = parseSoakOptions(args);
    if (options === 'help') {
      console.log(USAGE);
      return 0;
    }
    return await run(options);
  } catch (error) {
    if (interruption.exitCode !== undefined && !isTrustError(error, 'start.left_behind'))
      return interruption.exitCode;
    writeError(error);
    return exitCodeOf(error);
  }
}

async function run(options: SoakOptions): Promise<number> {
  const capability = await canBootLab();
  if (capability.kind === 'no')
    throw new TrustError('soak.no_lab', 'failed', `cannot boot the lab: ${capability.why}`, {
      hint: 'run it as root on a Debian machine',
    });
  const say = (line: string) => console.log(line);
  const { signal } = interruption;
  const { tally, issued, seen } = await soak(options, { name: `soak-${process.pid}`, say, signal });
  for (const line of tally.lines()) say(line);
  say(`certificates issued: ${[...issued].map(([what, count]) => `${count} ${what}`).join(', ')}`);
  say(`certificates seen served: ${[...seen].map(([where, count]) => `${count} ${where}`).join(', ')}`);
  if (interruption.exitCode !== undefined) return interruption.exitCode;
  return tally.failures.length === 0 ? 0 : 1;
}
