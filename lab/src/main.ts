import { parseArgs } from 'node:util';
import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { Lab, sweep } from './lab.ts';
import { allRecords } from './record.ts';

const USAGE = `usage: virt-trust lab up [--name NAME] [--hosts A,B]      boot hosts and leave them running
       virt-trust lab status                              the labs of this machine and their hosts
       virt-trust lab exec [--name NAME] HOST COMMAND...  run a command on a host, as root
       virt-trust lab down [--name NAME] [--delete-state] shut the hosts down
       virt-trust lab sweep [--name NAME]                 remove what a killed process left running`;

const OPTIONS = {
  name: { type: 'string', default: 'dev' },
  hosts: { type: 'string', default: 'host-a,host-b' },
  'delete-state': { type: 'boolean', default: false },
} as const;

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!isTrustError(error)) throw error;
  console.error(`error: ${error.message}`);
  if (error.hint !== undefined) console.error(`hint: ${error.hint}`);
  process.exitCode = 1;
}

async function main(args: readonly string[]): Promise<number> {
  if (args[0] === 'help' || args[0] === '--help' || args[0] === '-h' || args[1] === '--help') {
    console.log(USAGE);
    return 0;
  }
  const own = ownArguments(args);
  const { values, positionals } = parse(own);
  const name = values.name;
  switch (positionals[0]) {
    case 'up':
      return up(name, values.hosts.split(','));
    case 'down':
      await (await Lab.attach(name)).down({ deleteState: values['delete-state'] });
      return 0;
    case 'sweep':
      await sweep(name, { deleteState: values['delete-state'] });
      return 0;
    case 'status':
      return status();
    case 'exec': {
      const host = (await Lab.attach(name)).host(positionals[1] ?? '');
      const { code, stdout, stderr } = await host.exec(args.slice(own.length));
      process.stdout.write(stdout);
      process.stderr.write(stderr);
      return code;
    }
    default:
      console.error(USAGE);
      return 2;
  }
}

async function up(name: string, hosts: readonly string[]): Promise<number> {
  const began = performance.now();
  const seconds = () => `${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s`;
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () =>
      interrupted.abort(
        new TrustError('lab.interrupted', 'failed', `cannot bring lab ${name} up: ${signal}`),
      ),
    );
  }
  const lab = await Lab.up({
    signal: interrupted.signal,
    name,
    hosts,
    keepState: true,
    progress: ({ step, text }) => console.log(`${seconds()}  ${step.padEnd(8)}  ${text}`),
  });
  for (const host of lab.hosts)
    console.log(`${host.name}  ${host.sshTarget}  ${await host.sshFingerprint()}`);
  console.log(`ssh -i ${lab.sshKey} ${lab.hosts[0]?.sshTarget}`);
  await lab.detach();
  return 0;
}

async function status(): Promise<number> {
  for (const record of await allRecords()) {
    const lab = await Lab.attach(record.name);
    for (const host of lab.hosts) {
      const state = (await host.running()) ? 'running' : 'off';
      const cards = host.plan.interfaces.map((card) => `${card.network} ${card.address} ${card.address6}`);
      console.log(`${lab.name}  ${host.name}  ${state.padEnd(7)}  ${cards.join(', ')}`);
    }
  }
  return 0;
}

/** The arguments that are ours: what stands behind the host of `exec` belongs to its command, options included. */
function ownArguments(args: readonly string[]): readonly string[] {
  const { tokens } = parseArgs({
    args: [...args],
    options: OPTIONS,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const [verb, host] = tokens.filter((token) => token.kind === 'positional');
  return verb?.value === 'exec' && host !== undefined ? args.slice(0, host.index + 1) : args;
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: OPTIONS,
    });
  } catch (error) {
    throw new TrustError(
      'lab.usage',
      'invalid',
      `cannot read the arguments: ${error instanceof Error ? error.message : error}`,
      {
        hint: 'run `virt-trust lab` for usage',
      },
    );
  }
}
