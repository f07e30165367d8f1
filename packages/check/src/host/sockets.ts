import type { RunHostCommand } from './host-command.ts';

/** A TCP socket's two ends. */
export interface SocketEnds {
  readonly local: { readonly address: string; readonly port: number };
  /** Port 0 for a socket that listens. */
  readonly peer: { readonly address: string; readonly port: number };
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
