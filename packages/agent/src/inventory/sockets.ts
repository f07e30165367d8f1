import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { parseSockets, type SocketEnds } from '@virt-trust/check/host/sockets.ts';
import type { Inventory } from '@virt-trust/contract/model/inventory.ts';
import { isIpAddress } from '@virt-trust/pki/ip-address.ts';

type Connection = Inventory['connections'][number];

const MAX_CONNECTIONS = 4096;

/** The ports on which the host's libvirt is reached, as configured. */
export interface LibvirtPorts {
  readonly tls: number;
  readonly tcp: number;
}

/** Who is connected to the host's libvirt over the network, and to whose libvirt the host is connected; each once. */
export async function readConnections(run: RunHostCommand, ports: LibvirtPorts): Promise<Connection[]> {
  const { stdout } = await run('ss', ['-Htn', 'state', 'established'], { maxOutputBytes: 64 << 20 });
  return connectionsOf(parseSockets(stdout), ports);
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
