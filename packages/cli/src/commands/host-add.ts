import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { addHost, scanSshHostKeys } from '@virt-trust/contract/manager/host-operations.ts';
import type { AddHost } from '@virt-trust/contract/model/host.ts';
import type { Command } from 'commander';
import { given } from '../given.ts';
import { followJob } from '../job-watch.ts';
import { type ManagerClient, managerClient } from '../manager-client.ts';
import { writeNote } from '../output.ts';
import { canAsk, confirm } from '../prompt.ts';
import { addUnmanaged } from './host-unmanaged.ts';
import { collect, integerBetween, jsonOption } from './option.ts';

interface AddOptions {
  ssh?: string;
  unmanaged?: string;
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

/** Enrolment: `host add`. */
export function addHostAddCommand(host: Command): void {
  host
    .command('add')
    .description('Enrol a host over SSH and bring its certificates right')
    .argument('<name>', 'the name it gets here')
    .option('--ssh <user@host>', 'where the OpenSSH client reaches it')
    .option(
      '--unmanaged <address>',
      'in place of --ssh: only know it, without an agent, as an end of migrations in the clear',
    )
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
}

async function add(name: string, options: AddOptions): Promise<void> {
  if (options.unmanaged !== undefined) return await addUnmanaged(name, options.unmanaged, options);
  if (options.ssh === undefined) throw neither(name);
  const client = managerClient();
  const order = orderOf(name, { ...options, ssh: options.ssh });
  const job = await client.call(addHost, { body: order }).catch(async (error: unknown) => {
    if (!isTrustError(error, 'ssh.host_key_unaccepted') || !canAsk()) throw error;
    const fingerprint = await askForKey(client, order);
    return client.call(addHost, { body: { ...order, fingerprint } });
  });
  await followJob(client, job, options);
}

/** What the manager is asked for, of what was given. */
function orderOf(name: string, options: AddOptions & { readonly ssh: string }): AddHost {
  return {
    name,
    ssh: given({
      destination: options.ssh,
      port: options.sshPort,
      identityFile: options.sshIdentity,
      options: options.sshOption,
    }),
    ...given({
      fingerprint: options.sshFingerprint,
      cluster: options.cluster,
      observe: options.observe,
      interface: options.interface,
      names: options.name,
      channelAddress: options.channelAddress,
      channelPort: options.channelPort,
      managerAddresses: options.managerAddress,
    }),
  };
}

function neither(name: string): TrustError {
  return new TrustError('cli.usage', 'invalid', "required option '--ssh <user@host>' not specified", {
    hint: `a host without an agent is made known with: virt-trust host add ${name} --unmanaged ADDRESS`,
  });
}

/** Shows the keys and asks; what is accepted here is pinned. */
async function askForKey(client: ManagerClient, order: AddHost): Promise<string> {
  const { keys } = await client.call(scanSshHostKeys, { body: order.ssh });
  writeNote(`${order.ssh.destination} shows these SSH host keys:`);
  for (const key of keys) writeNote(`  ${key.fingerprint}  ${key.algorithm}`);
  const best = keys[0];
  if (
    best !== undefined &&
    (await confirm('Are they those of the machine (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on it)?'))
  )
    return best.fingerprint;
  throw new TrustError(
    'ssh.host_key_unaccepted',
    'denied',
    `host ${order.name} was not added: its SSH host key was not accepted`,
  );
}
