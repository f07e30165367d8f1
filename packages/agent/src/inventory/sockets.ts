import type { Inventory } from '@virt-trust/contract/model/inventory.ts';
import { isIpAddress } from '@virt-trust/pki/ip-address.ts';
import type { RunHostCommand } from '../host-command.ts';

type Connection = Inventory['connections'][number];

const MAX_CONNECTIONS = 4096;

/** The ports on which the host's libvirt is reached, as configured. */
export interface LibvirtPorts {
  readonly tls: number;
  readonly tcp: number;
}

/** A TCP socket's two ends. */
export interface SocketEnds {
  readonly local: { readonly address: string; readonly port: number };
  /** Port 0 for a socket that listens. */
  readonly peer: { readonly address: string; readonly port: number };
}

/** Who is connected to the host's libvirt over the network, and to whose libvirt the host is connected; each once. */
export async function readConnections(run: RunHostCommand, ports: LibvirtPorts): Promise<Connection[]> {
  const { stdout } = await run('ss', ['-Htn', 'state', 'established'], { maxOutputBytes: 64 << 20 });
  return connectionsOf(parseSockets(stdout), ports);
}

/** The TCP ports on which something listens. */
export async function readListeningPorts(run: RunHostCommand): Promise<Set<number>> {
  return new Set(parseSockets((await run('ss', ['-Htln'])).stdout).map(({ local }) => local.port));
}

/** Reads the output of `ss -Htn` or `ss -Htln`, with or without its state column; strange lines are passed over. */
export function parseSockets(output: string): SocketEnds[] {
  return output.split('\n').flatMap((line) => {
    const columns = line.trim().split(/\s+/).slice(0, 8);
    const start = /^\d+$/.test(columns[0] ?? '') ? 2 : 3;
    const local = readEnd(columns[start]);
    const peer = readEnd(columns[start + 1]);
    return local === undefined || peer === undefined ? [] : [{ local, peer }];
  });
}

/** The connections among sockets that concern libvirt's ports, without repetition. */
export function connectionsOf(sockets: readonly SocketEnds[], ports: LibvirtPorts): Connection[] {
  const found = new Map<string, Connection>();
  for (const { local, peer } of sockets) {
    if (!isIpAddress(peer.address)) continue;
    for (const transport of ['tls', 'tcp'] as const) {
      if (local.port === ports[transport]) add({ direction: 'client', address: peer.address, transport });
      else if (peer.port === ports[transport]) add({ direction: 'peer', address: peer.address, transport });
    }
  }
  return [...found.values()].slice(0, MAX_CONNECTIONS);

  function add(connection: Connection): void {
    found.set(`${connection.direction} ${connection.address} ${connection.transport}`, connection);
  }
}

/** `10.0.0.1:22`, `[::1]:22`, `[fe80::1]%eth0:22`, `*:*`. */
function readEnd(text: string | undefined): SocketEnds['local'] | undefined {
  const found = /^(?:\[([^\]]+)\]|([^[\]]+?))(?:%[^:\]]+)?:(\d{1,5}|\*)$/.exec(text ?? '');
  const address = found?.[1] ?? found?.[2];
  if (address === undefined) return undefined;
  const port = found?.[3] === '*' ? 0 : Number(found?.[3]);
  if (port > 65_535) return undefined;
  const bare = address.replace(/%.*$/, '');
  return { address: /^::ffff:(\d+(?:\.\d+){3})$/i.exec(bare)?.[1] ?? bare, port };
}
