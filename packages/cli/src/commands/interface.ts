import { TrustError } from '@virt-trust/base/error.ts';
import { listInterfaces, setInterface } from '@virt-trust/contract/manager/interface-operations.ts';
import {
  INTERFACE_ROLES,
  type InterfaceRole,
  type SetInterface,
} from '@virt-trust/contract/model/interface.ts';
import { type Command, InvalidArgumentError } from 'commander';
import { given } from '../given.ts';
import { writeInterfaces } from '../interface-view.ts';
import { followJob } from '../job-watch.ts';
import { managerClient } from '../manager-client.ts';
import { writeJson } from '../output.ts';
import { collect, jsonOption } from './option.ts';

interface SetOptions {
  roles?: InterfaceRole[] | 'auto';
  name?: string[];
  /** False with --no-names. */
  names: boolean;
  address?: string[];
  /** False with --no-addresses. */
  addresses: boolean;
  accept?: boolean;
  release?: string[];
  json?: boolean;
}

const LIST_HELP = `
A name or address is in certificates only where its interface has a role, and where an administrator or the settings
interface.allowed_subnets and interface.allowed_domains let it in; what is refused is listed with the way out.
Example: virt-trust interface list kvm1
Roles by setting: virt-trust setting set role.display 10.0.3.0/24,fd00:3::/64 --cluster rack1
More: docs/interfaces.md`;

const SET_HELP = `
What is left out stays. The addresses that the host reports on the interface now are accepted with it, unless --release
stands alone.
Examples:
  virt-trust interface set kvm1 eth2 --roles display --name kvm1.console.example
  virt-trust interface set kvm1 eth2 --address 203.0.113.7       clients come through NAT
  virt-trust interface set kvm1 eth2 --release 10.0.3.7          it is kvm2's now
  virt-trust interface set kvm1 eth2 --roles auto --no-names     as the settings have it again
More: docs/interfaces.md`;

export function addInterfaceCommands(program: Command): void {
  const command = program
    .command('interface')
    .description('The network interfaces of hosts, what they are for, and their names')
    .addHelpText('after', '\nMore: docs/interfaces.md');
  command
    .command('list')
    .description('The interfaces of a host with roles, addresses, names and services')
    .argument('<host>')
    .addOption(jsonOption())
    .addHelpText('after', LIST_HELP)
    .action(list);
  command
    .command('set')
    .description('Say what an interface is for and what it is called; its certificates follow')
    .argument('<host>')
    .argument('<interface>')
    .option('--roles <list>', `${INTERFACE_ROLES.join(',')}, none, or auto for the settings'`, rolesFrom)
    .option('--name <fqdn>', 'a name under which clients reach it, in place of those before', collect)
    .option('--no-names', 'it has no names of its own')
    .option('--address <address>', 'an address that clients use and it has not: NAT in between', collect)
    .option('--no-addresses', 'clients use its own addresses only')
    .option('--accept', 'accept the addresses that the host reports on it now, released ones too')
    .option('--no-accept', 'do not accept the addresses that the host reports on it now')
    .option('--release <address>', "an address that is the host's no more, for another to have", collect)
    .addOption(jsonOption())
    .addHelpText('after', SET_HELP)
    .action(set);
}

async function list(host: string, options: { json?: boolean }): Promise<void> {
  const { items } = await managerClient().call(listInterfaces, { params: { name: host } });
  if (options.json === true) writeJson(items);
  else writeInterfaces(items);
}

async function set(host: string, name: string, options: SetOptions): Promise<void> {
  const body = orderOf(options);
  const client = managerClient();
  const job = await client.call(setInterface, { params: { name: host, interface: name }, body });
  await followJob(client, job, options);
}

function orderOf(options: SetOptions): SetInterface {
  if (!options.names && options.name !== undefined) throw both('--name', '--no-names');
  if (!options.addresses && options.address !== undefined) throw both('--address', '--no-addresses');
  const dns = options.names ? options.name?.filter((name) => name !== '').map(asDnsName) : [];
  const addresses = options.addresses ? options.address?.filter((address) => address !== '') : [];
  return given({
    roles: options.roles === 'auto' ? null : options.roles,
    dns,
    addresses,
    accept: options.accept ?? (releasesOnly(options) ? false : undefined),
    release: options.release,
  });
}

/** Who lets go of an address does not mean to take others in. */
function releasesOnly({ release, roles, name, names, address, addresses }: SetOptions): boolean {
  const others = roles === undefined && name === undefined && address === undefined && names && addresses;
  return release !== undefined && others;
}

/** As certificates say it: people write names with capitals and the root's dot. */
function asDnsName(name: string): string {
  return name.toLowerCase().replace(/\.$/, '');
}

function both(one: string, other: string): TrustError {
  return new TrustError('cli.options', 'invalid', `cannot set names: ${one} and ${other} were both given`);
}

/** `auto` stays the word: of a null commander makes an empty string. */
function rolesFrom(text: string): InterfaceRole[] | 'auto' {
  if (text === 'auto') return 'auto';
  if (text === 'none') return [];
  return [...new Set(text.split(',').map((word) => roleFrom(word.trim())))];
}

function roleFrom(word: string): InterfaceRole {
  const role = INTERFACE_ROLES.find((one) => one === word);
  if (role !== undefined) return role;
  throw new InvalidArgumentError(`It must be a list of ${INTERFACE_ROLES.join(', ')}, or none, or auto.`);
}
