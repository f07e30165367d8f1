import { TrustError } from '@virt-trust/base/error.ts';
import {
  getInventory,
  getObservedState,
  getStatus,
  postRemoval,
} from '@virt-trust/contract/agent/operations.ts';
import type { Command } from 'commander';
import { formatTime, writeJson, writeLine, writeTable } from '../output.ts';
import { requireConfirmation } from '../prompt.ts';
import { jsonOption, yesOption } from './option.ts';

export function addAgentCommands(program: Command): void {
  const agent = program.command('agent').description('The agent of this host (as root on it)');
  agent
    .command('status')
    .description('Who it is, whom it obeys, and what it serves')
    .addOption(jsonOption())
    .action(status);
  agent
    .command('inventory')
    .description('What it sees on this host')
    .action(async () => writeJson(await (await localAgent()).call(getInventory, {})));
  agent
    .command('remove')
    .description('Give this host back what was found on it, and remove the agent')
    .addOption(yesOption())
    .addOption(jsonOption())
    .action(remove);
  agent
    .command('install', { hidden: true })
    .description('Install the service (the manager runs this over SSH)')
    .action(install);
  agent
    .command('guard')
    .description(
      'Let libvirt and VMs start where certificates of this host have expired (a service runs this at boot)',
    )
    .action(guard);
  agent
    .command('conduct', { hidden: true })
    .description('Conduct a migration (the agent runs this)')
    .argument('<id>')
    .action(conduct);
  agent
    .command('relay', { hidden: true })
    .description('Take the streams of a migration in mode pinned (the agent runs this)')
    .argument('<id>')
    .action(relay);
  agent
    .command('look', { hidden: true })
    .description('Look at the disks of a VM as libvirt sees them (the agent runs this)')
    .action(look);
  agent.command('run', { hidden: true }).description('Run the agent (the service runs this)').action(run);
}

async function localAgent() {
  const [{ localAgentClient }, { agentPaths }] = await Promise.all([
    import('@virt-trust/agent/doors/local-client.ts'),
    import('@virt-trust/agent/state/paths.ts'),
  ]);
  if (process.getuid?.() !== 0)
    throw new TrustError('agent.not_root', 'denied', 'cannot ask the agent: its socket is for root', {
      hint: 'run it as root: sudo virt-trust agent status',
    });
  return localAgentClient(agentPaths().socket);
}

async function status(options: { json?: boolean }): Promise<void> {
  const client = await localAgent();
  const [who, observed] = await Promise.all([client.call(getStatus, {}), client.call(getObservedState, {})]);
  if (options.json === true) return writeJson({ ...who, observed });
  writeLine(`virt-trust agent ${who.version} on ${who.hostName}, mode ${who.mode}, listens on ${who.listen}`);
  writeLine(`  own pin   ${who.pin}`);
  for (const pin of who.managers) writeLine(`  manager   ${pin}`);
  for (const channel of who.channels)
    writeLine(`  connected ${channel.remoteAddress} since ${formatTime(channel.since)}`);
  writeLine();
  writeTable(
    ['service', 'phase', 'identity', 'generation', 'expires'],
    observed.credentials.map((one) => [
      one.service,
      one.phase,
      one.identity,
      String(one.generation ?? '-'),
      formatTime(one.notAfter),
    ]),
  );
  for (const one of observed.credentials)
    if (one.failure !== null)
      writeLine(`  ${one.service} failed at ${one.failure.step}: ${one.failure.message}`);
  if (observed.failure !== null)
    writeLine(`  settings failed at ${observed.failure.step}: ${observed.failure.message}`);
  for (const { service, reason, at } of observed.rescues)
    writeLine(
      `  rescue    ${service} goes on with a set of the host's own since ${formatTime(at)}: ${reason}`,
    );
  for (const { purpose, number, entries, nextUpdate, failure } of observed.crls)
    writeLine(
      `  CRL       ${purpose}: number ${number}, ${entries} ${entries === 1 ? 'entry' : 'entries'}, good until ${formatTime(nextUpdate)}${failure === null ? '' : `; not loaded: ${failure}`}`,
    );
  const wrong = observed.served.filter(({ state }) => state !== 'as-desired');
  writeLine(`  served    ${observed.served.length} endpoints seen, ${wrong.length} not as desired`);
  for (const { service, target, state, since, detail, action } of wrong)
    writeLine(
      `  ${state.padEnd(9)} ${service} at ${target} since ${formatTime(since)}: ${detail}${action === '' ? '' : `; ${action}`}`,
    );
  for (const pending of observed.pending)
    writeLine(`  left for a person: ${pending.what}: ${pending.why}; ${pending.action}`);
}

async function remove(options: { yes?: boolean; json?: boolean }): Promise<void> {
  await requireConfirmation('Give this host back what was found on it, and remove the agent?', options.yes);
  const answer = await (await localAgent()).call(postRemoval, {});
  if (options.json === true) return writeJson(answer);
  for (const restored of answer.restored) writeLine(`restored ${restored}`);
  for (const left of answer.left) writeLine(`left     ${left}`);
}

async function install(): Promise<void> {
  const { installAgent, parseInstallOrder } = await import('@virt-trust/agent/install/install.ts');
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of process.stdin) {
    size += chunk.length;
    if (size > 1024 * 1024)
      throw new TrustError(
        'install.bad_order',
        'invalid',
        'cannot install the agent: the order is over 1 MiB',
      );
    chunks.push(chunk as Buffer);
  }
  process.stdout.write(
    JSON.stringify(await installAgent(parseInstallOrder(Buffer.concat(chunks).toString('utf8')))),
  );
}

async function guard(): Promise<void> {
  const { guardHost } = await import('@virt-trust/agent/rescue/guard.ts');
  await guardHost(writeLine);
  // Whatever is still under way: libvirt waits.
  process.exit(0);
}

async function conduct(id: string): Promise<void> {
  const [{ conduct: conductMigration }, { createLog }] = await Promise.all([
    import('@virt-trust/agent/conduct/conduct.ts'),
    import('@virt-trust/agent/log.ts'),
  ]);
  await conductMigration(id, { log: createLog() });
}

async function look(): Promise<void> {
  const { lookForAgent } = await import('@virt-trust/agent/preflight/outside-files.ts');
  writeLine(await lookForAgent(process.stdin));
}

async function relay(id: string): Promise<void> {
  const [{ runRelay }, { createLog }] = await Promise.all([
    import('@virt-trust/agent/relay/relay-process.ts'),
    import('@virt-trust/agent/log.ts'),
  ]);
  await runRelay(id, createLog());
  // Timers of what was cut off are of no use any more.
  process.exit(0);
}

async function run(): Promise<void> {
  const { serveAgent } = await import('@virt-trust/agent/serve.ts');
  const { hostEngines } = await import('@virt-trust/agent/engines.ts');
  const { createLog } = await import('@virt-trust/agent/log.ts');
  await serveAgent({ log: createLog(), engines: hostEngines });
}
