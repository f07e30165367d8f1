import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { parseSockets, type SocketEnds } from '@virt-trust/check/host/sockets.ts';

/** What listens on a host: TCP sockets, and Unix sockets by path. */
export interface Listeners {
  readonly tcp: readonly SocketEnds['local'][];
  readonly unix: ReadonlySet<string>;
}

const MAX_OUTPUT = 16 << 20;

/** Who listens now, asked of the kernel. */
export async function readListeners(run: RunHostCommand): Promise<Listeners> {
  return parseListeners((await run('ss', ['-Hltnx'], { maxOutputBytes: MAX_OUTPUT })).stdout);
}

/** Reads the output of `ss -Hltnx`; strange lines are passed over. */
export function parseListeners(output: string): Listeners {
  const lines = output.split('\n');
  const tcp = lines.flatMap((line) => {
    const rest = /^tcp\s+(.*)$/.exec(line)?.[1];
    return rest === undefined ? [] : parseSockets(rest).map(({ local }) => local);
  });
  const unix = lines.flatMap((line) => {
    const columns = /^u_\w+\s+LISTEN\s+\d+\s+\d+\s+(\/\S+)\s/.exec(line);
    return columns?.[1] === undefined ? [] : [columns[1]];
  });
  return { tcp, unix: new Set(unix) };
}

/** Where a port is listened on, each address once; null where nobody listens. */
export function listenerOn(port: number, { tcp }: Listeners): { addresses: string[]; port: number } | null {
  const addresses = [...new Set(tcp.flatMap((one) => (one.port === port ? [one.address] : [])))].sort();
  return addresses.length === 0 ? null : { addresses: addresses.slice(0, 64), port };
}
