import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import {
  addHost,
  collectHost,
  getHost,
  listHosts,
  passGate,
  provisionHost,
  removeHost,
  rollHostKey,
  scanSshHostKeys,
} from '@virt-trust/contract/manager/operations.ts';
import {
  type AddHost,
  Gate,
  type HostDetail,
  type Job,
  type SshHostKey,
} from '@virt-trust/contract/model/manager.ts';
import type { Command } from 'commander';
import { everyPage } from '../every-page.ts';
import { followJob } from '../job-watch.ts';
import { type ManagerClient, managerClient } from '../manager-client.ts';
import { formatTime, writeJson, writeLine, writeTable } from '../output.ts';
import { canAsk, confirm, requireConfirmation } from '../prompt.ts';
import { collect, integerBetween, jsonOption, yesOption } from './option.ts';

interface AddOptions {
  ssh: string;
  sshFingerprint?: string;
  sshPort?: number;
  sshIdentity?: string;
  sshOption?: string[];
  cluster?: string;
  observe?: boolean;
  interface?: string;
  name?: string[];
  channelAddress?: string;
  channelPort?: number;
  managerAddress?: string[];
  json?: boolean;
}

export function addHostCommands(program: Command): void {
  const host = program.command('host').description('The hosts under management');
  host
    .command('add')
    .description('Enrol a host over SSH and bring its certificates right')
    .argument('<name>', 'the name it gets here')
    .requiredOption('--ssh <user@host>', 'where the OpenSSH client reaches it')
    .option('--ssh-fingerprint <SHA256:...>', 'its SSH host key, as ssh-keygen -lf prints it')
    .option('--ssh-port <port>', 'port of sshd', integerBetween(1, 65535))
    .option('--ssh-identity <file>', "private key file on the manager's machine")
    .option('--ssh-option <Key=value>', 'another option of ssh, such as ProxyJump=bastion', collect)
    .option('--cluster <name>', 'the cluster it belongs to (default)')
    .option('--observe', 'look and report only, change nothing')
    .option('--interface <name>', 'its management interface, where it is not the one that ssh reaches')
    .option('--name <fqdn>', 'another DNS name of it', collect)
    .option('--channel-address <address>', 'where the agent is dialled, where that is not where ssh goes')
    .option('--channel-port <port>', "the agent's port (16515)", integerBetween(1, 65535))
    .option(
      '--manager-address <address>',
      "another address that the manager's connections come from",
      collect,
    )
    .addOption(jsonOption())
    .action(add);
  host.command('list').description('All hosts').addOption(jsonOption()).action(list);
  host
    .command('show')
    .description('One host with its interfaces, services, gates and VMs')
    .argument('<name>')
    .addOption(jsonOption())
    .action(show);
  host
    .command('collect')
    .description('Read the inventory anew')
    .argument('<name>')
    .addOption(jsonOption())
    .action(async (name: string, options) => {
      print(await managerClient().call(collectHost, { params: { name } }), options);
    });
  host
    .command('provision')
    .description('Bring the certificates of a host right')
    .argument('<name>')
    .option('--renew', 'make new keys and certificates although the present ones are good')
    .addOption(jsonOption())
    .action((name: string, options) =>
      follow(
        (client) => client.call(provisionHost, { params: { name }, body: { renew: options.renew === true } }),
        options,
      ),
    );
  host
    .command('gate')
    .description(
      'Take a step of adoption that takes something away: serve, vnc-tls, plain-tcp-off, retire-found-ca',
    )
    .argument('<name>')
    .argument('<gate>')
    .option('--force', 'in spite of what speaks against it')
    .addOption(yesOption())
    .addOption(jsonOption())
    .action(gate);
  host
    .command('remove')
    .description('Give the host back what was found on it, and forget it')
    .argument('<name>')
    .option('--force', 'forget it even where it cannot be reached')
    .addOption(yesOption())
    .addOption(jsonOption())
    .action(async (name: string, options) => {
      await requireConfirmation(`Remove host ${name} and put back what was found on it?`, options.yes);
      await follow(
        (client) => client.call(removeHost, { params: { name }, query: { force: options.force === true } }),
        options,
      );
    });
  host
    .command('roll-key')
    .description("Replace the agent's channel key")
    .argument('<name>')
    .addOption(jsonOption())
    .action((name: string, options) =>
      follow((client) => client.call(rollHostKey, { params: { name } }), options),
    );
}

async function follow(
  start: (client: ManagerClient) => Promise<Job>,
  options: { json?: boolean },
): Promise<void> {
  const client = managerClient();
  await followJob(client, await start(client), options);
}

async function add(name: string, options: AddOptions): Promise<void> {
  const client = managerClient();
  const order = orderOf(name, options);
  const job = await client.call(addHost, { body: order }).catch(async (error: unknown) => {
    if (!isTrustError(error, 'ssh.host_key_unaccepted') || !canAsk()) throw error;
    const fingerprint = await askForKey(client, order);
    return client.call(addHost, { body: { ...order, fingerprint } });
  });
  await followJob(client, job, options);
}

function orderOf(name: string, options: AddOptions): AddHost {
  return {
    name,
    ssh: {
      destination: options.ssh,
      ...(options.sshPort === undefined ? {} : { port: options.sshPort }),
      ...(options.sshIdentity === undefined ? {} : { identityFile: options.sshIdentity }),
      ...(options.sshOption === undefined ? {} : { options: options.sshOption }),
    },
    ...(options.sshFingerprint === undefined ? {} : { fingerprint: options.sshFingerprint }),
    ...(options.cluster === undefined ? {} : { cluster: options.cluster }),
    ...(options.observe === undefined ? {} : { observe: options.observe }),
    ...(options.interface === undefined ? {} : { interface: options.interface }),
    ...(options.name === undefined ? {} : { names: options.name }),
    ...(options.channelAddress === undefined ? {} : { channelAddress: options.channelAddress }),
    ...(options.channelPort === undefined ? {} : { channelPort: options.channelPort }),
    ...(options.managerAddress === undefined ? {} : { managerAddresses: options.managerAddress }),
  };
}

/** Shows the keys and asks; what is accepted here is pinned. */
async function askForKey(client: ManagerClient, order: AddHost): Promise<string> {
  const { keys } = await client.call(scanSshHostKeys, { body: order.ssh });
  process.stderr.write(`${order.ssh.destination} shows these SSH host keys:\n`);
  for (const key of keys) process.stderr.write(`  ${key.fingerprint}  ${key.algorithm}\n`);
  const best = keys[0] as SshHostKey;
  if (
    await confirm('Are they those of the machine (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on it)?')
  )
    return best.fingerprint;
  throw new TrustError(
    'ssh.host_key_unaccepted',
    'denied',
    `host ${order.name} was not added: its SSH host key was not accepted`,
  );
}

async function gate(
  name: string,
  gateName: string,
  options: { force?: boolean; yes?: boolean; json?: boolean },
): Promise<void> {
  const gates = Gate.anyOf.map((one) => one.const);
  const wanted = gates.find((one) => one === gateName);
  if (wanted === undefined)
    throw new TrustError(
      'gate.unknown',
      'invalid',
      `cannot pass gate ${gateName}: there is none of that name`,
      { hint: `the gates are ${gates.join(', ')}` },
    );
  await requireConfirmation(`Pass gate ${wanted} of host ${name}?`, options.yes);
  await follow(
    (client) =>
      client.call(passGate, { params: { name, gate: wanted }, body: { force: options.force === true } }),
    options,
  );
}

async function list(options: { json?: boolean }): Promise<void> {
  const client = managerClient();
  const hosts = await everyPage((cursor) => client.call(listHosts, { query: cursor }));
  if (options.json === true) return writeJson(hosts);
  writeTable(
    ['name', 'cluster', 'state', 'channel', 'services', 'next expiry', 'reason'],
    hosts.map((one) => {
      const expiries = one.services.flatMap((service) =>
        service.notAfter === null ? [] : [service.notAfter],
      );
      const services = one.services
        .map(({ service, phase }) => (phase === 'settled' ? service : `${service}:${phase}`))
        .join(' ');
      return [
        one.name,
        one.cluster,
        one.state,
        one.channel,
        services || '-',
        formatTime(expiries.length === 0 ? null : Math.min(...expiries)),
        (one.reason ?? '').slice(0, 80),
      ];
    }),
  );
}

async function show(name: string, options: { json?: boolean }): Promise<void> {
  print(await managerClient().call(getHost, { params: { name } }), options);
}

function print(host: HostDetail, options: { json?: boolean }): void {
  if (options.json === true) {
    writeJson(host);
    return;
  }
  const { inventory } = host;
  writeLine(
    `${host.name}  ${host.state}, channel ${host.channel}${host.group === null ? '' : ` (${host.group})`}`,
  );
  if (host.reason !== null) writeLine(`  reason: ${host.reason}`);
  if (inventory !== null) {
    writeLine(
      `  ${inventory.distribution.prettyName}, libvirt ${inventory.libvirt?.version ?? 'none'} (${inventory.libvirt?.daemonMode ?? '-'}), QEMU ${inventory.qemu?.version ?? 'none'}, ${inventory.lsm}, firewall ${inventory.firewall}`,
    );
  }
  writeLine(
    `  declared on ${host.declared.interface ?? '-'}: ${[...host.declared.names.dns, ...host.declared.names.addresses].join(', ')}`,
  );
  writeLine();
  writeTable(
    ['service', 'phase', 'identity', 'serial', 'expires', 'proven by'],
    (host.observed?.credentials ?? []).map((one) => [
      one.service,
      one.phase,
      one.identity,
      one.serialNumber ?? '-',
      formatTime(one.notAfter),
      one.proofs.map((proof) => `${proof.kind} ${proof.target}`).join('; ') || '-',
    ]),
  );
  const gates = host.gates.filter((one) => one.state !== 'not-needed');
  if (gates.length > 0) {
    writeLine();
    writeTable(
      ['gate', 'state', 'blockers'],
      gates.map((one) => [one.gate, one.state, one.blockers.join('; ') || '-']),
    );
  }
  for (const pending of host.observed?.pending ?? [])
    writeLine(`  left for a person: ${pending.what}: ${pending.why}; ${pending.action}`);
  for (const vm of inventory?.runningVms ?? []) writeLine(`  VM ${vm.name} ${vm.state} (process ${vm.pid})`);
}
