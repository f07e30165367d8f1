import { setImmediate } from 'node:timers/promises';
import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { exitCodeOf } from '@virt-trust/cli/exit-code.ts';
import { writeError } from '@virt-trust/cli/output.ts';
import { buildProgram } from '../../tools/build.ts';
import { canBootLab } from './capability.ts';
import { checkPort } from './demo/demo-manager.ts';
import { listenForInterruption } from './demo/interruption.ts';
import { mainJobOnLab } from './demo/main-job.ts';
import { managerAlone } from './demo/manager-alone.ts';
import { parseOptions, type StartOptions, USAGE } from './demo/options.ts';
import { Steps } from './demo/steps.ts';

const interruption = listenForInterruption();
process.exitCode = await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<number> {
  try {
    const options = parseOptions(args);
    if (options === 'help') console.log(USAGE);
    else await start(options);
    return 0;
  } catch (error) {
    // A signal that came while this thread was busy is heard now; it also ended the children that failed us.
    await setImmediate();
    if (interruption.exitCode !== undefined && !isTrustError(error, 'start.left_behind'))
      return interruption.exitCode;
    writeError(error);
    return exitCodeOf(error);
  }
}

async function start(options: StartOptions): Promise<void> {
  const steps = new Steps();
  const { signal } = interruption;
  await checkPort(options.port);
  const capability = options.lab ? await canBootLab() : undefined;
  if (capability?.kind === 'no') steps.line(`The lab is left out, because ${capability.why}.`);
  const program = await steps.run('Build the program', build, signal);
  signal.throwIfAborted();
  if (capability?.kind === 'yes') return mainJobOnLab(options, program, steps, interruption);
  await managerAlone(options, program, steps, interruption);
  if (options.exit && capability !== undefined)
    throw new TrustError('start.no_lab', 'failed', `cannot do the main job: ${capability.why}`, {
      hint: 'run it as root on a Debian machine, or leave the lab out: npm start -- --no-lab',
    });
}

async function build(): Promise<string> {
  try {
    return await buildProgram();
  } catch (cause) {
    throw new TrustError('start.build', 'failed', `cannot build the program: ${describeError(cause)}`, {
      cause,
      hint: 'see what ./virt-trust build says',
    });
  }
}
