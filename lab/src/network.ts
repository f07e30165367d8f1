import { readdir, writeFile } from 'node:fs/promises';
import { exec, run, succeed } from './command.ts';
import type { InterfacePlan, NetworkPlan, UsedRange } from './network-plan.ts';

/** The addresses and routes that the machine has, except those of the given bridges. */
export async function usedRanges(exceptBridges: ReadonlySet<string> = new Set()): Promise<UsedRange[]> {
  const used: UsedRange[] = [];
  for (const family of ['ipv4', 'ipv6'] as const) {
    const text = await run(['ip', family === 'ipv4' ? '-4' : '-6', '-json', 'route', 'show', 'table', 'all']);
    for (const route of JSON.parse(text || '[]') as { dst?: string; dev?: string }[]) {
      if (route.dst === undefined || route.dst === 'default' || exceptBridges.has(route.dev ?? '')) continue;
      const [address = '', length] = route.dst.split('/');
      used.push({ address, prefixLength: Number(length ?? (family === 'ipv4' ? 32 : 128)), family });
    }
  }
  return used;
}

/** Makes the bridges, with the machine's own addresses on them. */
export async function createBridges(networks: readonly NetworkPlan[]): Promise<void> {
  await ipBatch(
    networks.flatMap(({ bridge, machineAddress }) => [
      `link add ${bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0`,
      `addr add ${machineAddress}/24 dev ${bridge}`,
    ]),
  );
  // Some machines switch IPv6 off for new interfaces.
  for (const { bridge } of networks) await writeFile(`/proc/sys/net/ipv6/conf/${bridge}/disable_ipv6`, '0');
  await ipBatch(
    networks.flatMap(({ bridge, machineAddress6 }) => [
      `link set ${bridge} up`,
      `addr add ${machineAddress6}/64 dev ${bridge} nodad`,
    ]),
  );
}

/** Of QEMU's migrations: given to no client, so that what a firewall drops and a capture shows there is a migration's. */
const RESERVED_PORTS = '49152-49215';

/** Makes a host's network namespace with its interfaces plugged into the bridges. */
export async function createNamespace(name: string, interfaces: readonly InterfacePlan[]): Promise<void> {
  await run(['ip', 'netns', 'add', name]);
  await run(['ip', '-n', name, 'link', 'set', 'lo', 'up']);
  await ipBatch(
    interfaces.flatMap((card) => [
      `link add ${card.peer} type veth peer name ${card.name} address ${macAddressOf(card)} netns ${name}`,
      `link set ${card.peer} master ${card.bridge} up`,
    ]),
  );
  const enable = interfaces.map((card) => `echo 0 >/proc/sys/net/ipv6/conf/${card.name}/disable_ipv6`);
  enable.push(`echo ${RESERVED_PORTS} >/proc/sys/net/ipv4/ip_local_reserved_ports`);
  await run(['ip', 'netns', 'exec', name, 'sh', '-ec', enable.join('\n')]);
  await ipBatch(
    interfaces.flatMap((card) => [
      `link set ${card.name} up`,
      `addr add ${card.address}/24 dev ${card.name}`,
      `addr add ${card.address6}/64 dev ${card.name} nodad`,
    ]),
    ['-n', name],
  );
}

/** As with hardware it is the same after each boot: the machine goes on sending to the one that it knows. */
function macAddressOf({ address }: InterfacePlan): string {
  const octets = address.split('.').map((octet) => Number(octet).toString(16).padStart(2, '0'));
  return ['02', '76', ...octets].join(':');
}

/** Pulls or plugs the cable of an interface: the host sees its carrier go or come, its addresses stay. */
export async function setCable(card: InterfacePlan, state: 'up' | 'down'): Promise<void> {
  await run(['ip', 'link', 'set', card.peer, state]);
}

/** Removes a host's cables and network namespace; does nothing where they are not. */
export async function removeNamespace(name: string, interfaces: readonly InterfacePlan[]): Promise<void> {
  // The kernel takes a namespace's cables down some time after it, when a new one may already want the names.
  for (const card of interfaces) await removeLink(card.peer);
  const there = await readdir('/run/netns').catch((): string[] => []);
  if (there.includes(name)) await run(['ip', 'netns', 'delete', name]);
}

/** Removes the bridges; does nothing where they are not. */
export async function removeBridges(networks: readonly NetworkPlan[]): Promise<void> {
  for (const { bridge } of networks) await removeLink(bridge);
}

async function removeLink(name: string): Promise<void> {
  const isThere = async () => (await readdir('/sys/class/net')).includes(name);
  if (!(await isThere())) return;
  const argv = ['ip', 'link', 'delete', name];
  const result = await exec(argv);
  // The kernel may have taken it away itself by then.
  if (result.code !== 0 && (await isThere())) succeed(argv, result);
}

async function ipBatch(lines: readonly string[], options: readonly string[] = []): Promise<void> {
  await run(['ip', ...options, '-batch', '-'], { input: `${lines.join('\n')}\n` });
}
