import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Lab } from '../src/lab.ts';
import { type NetworkName, planNetworks } from '../src/network-plan.ts';
import { until } from '../src/until.ts';

/** What TCP connections began with, as seen on the lab's bridge. */
export interface WireSight {
  /** Of all kinds, also of connections that were there before. */
  readonly segments: number;
  readonly connections: number;
  /** Began with a TLS record of a ClientHello (RFC 8446 §5.1), or as NBD with STARTTLS and then one. */
  readonly tls: number;
  readonly plain: number;
}

/** A capture filter: QEMU's streams, without clients of SSH, libvirt and agents to whom the kernel gave a port of that range. */
export const QEMU_STREAMS =
  'tcp portrange 49152-49215 and not (port 22 or port 16509 or portrange 16514-16583)';

/** As much as passes while the machine has no time for a capture. */
const BUFFER_KIB = '16384';
const PATIENCE = 120_000;

/** What is done while every network of the lab is watched; the watches are gone afterwards, also where it fails. */
export async function whileWatchingNetworks<Result>(
  lab: Lab,
  filter: string,
  work: () => Promise<Result>,
): Promise<{ result: Result; networks: Record<NetworkName, WireSight> }> {
  const watches = await Promise.all(
    lab.record.networks.map(async (network) => [network, await watchWire(lab, filter, network)] as const),
  );
  const [outcome] = await Promise.allSettled([work()]);
  const sights = await Promise.all(watches.map(async ([name, watch]) => [name, await watch.stop()] as const));
  if (outcome.status === 'rejected') throw outcome.reason;
  return { result: outcome.value, networks: Object.fromEntries(sights) as Record<NetworkName, WireSight> };
}

/** What is done while the management network is watched through filters; they are gone afterwards, also where it fails. */
export async function whileWatching<Result, Name extends string>(
  lab: Lab,
  filters: Readonly<Record<Name, string>>,
  work: () => Promise<Result>,
): Promise<{ result: Result; wires: Record<Name, WireSight> }> {
  const watches = await Promise.all(
    Object.entries<string>(filters).map(
      async ([name, filter]) => [name, await watchWire(lab, filter)] as const,
    ),
  );
  const [outcome] = await Promise.allSettled([work()]);
  const sights = await Promise.all(watches.map(async ([name, watch]) => [name, await watch.stop()] as const));
  if (outcome.status === 'rejected') throw outcome.reason;
  return { result: outcome.value, wires: Object.fromEntries(sights) as Record<Name, WireSight> };
}

/** Captures on the bridge of a network of the lab until stopped. */
export async function watchWire(
  lab: Lab,
  filter: string,
  network: NetworkName = 'management',
): Promise<{ stop(): Promise<WireSight> }> {
  const directory = await mkdtemp(join(tmpdir(), 'vt-wire-'));
  const file = join(directory, 'capture');
  const plans = planNetworks(lab.record.index, lab.record.networks);
  const plan = plans.find(({ name }) => name === network);
  const child = spawn(
    'tcpdump',
    [
      ...['-i', plan?.bridge ?? '', '-Z', 'root', '-U', '--immediate-mode', '-B', BUFFER_KIB, '-s', '256'],
      ...['-w', file, `(${filter}) or udp dst port ${MARK_PORT}`],
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const listening = Promise.withResolvers<void>();
  let said = '';
  child.stderr.on('data', (chunk) => {
    said += chunk;
    if (said.includes('listening on')) listening.resolve();
  });
  const closed = once(child, 'close');
  closed.then(() => listening.reject(new Error(`tcpdump does not listen: ${said}`)), listening.reject);
  await listening.promise;
  return {
    async stop() {
      try {
        await caughtUp(file, plan?.machineAddress ?? '');
        child.kill('SIGINT');
        await closed;
        throwIfLost(said);
        return readCapture(await readFile(file));
      } finally {
        child.kill('SIGKILL');
        await rm(directory, { recursive: true, force: true });
      }
    },
  };
}

/** Reads a pcap file (draft-ietf-opsawg-pcap) of Ethernet frames with TCP in IPv4 or IPv6. */
function readCapture(capture: Buffer): WireSight {
  const first = new Map<string, Buffer>();
  const clients = new Set<string>();
  let segments = 0;
  for (let at = 24; at + 16 <= capture.length; ) {
    const length = capture.readUInt32LE(at + 8);
    const frame = capture.subarray(at + 16, at + 16 + length);
    at += 16 + length;
    const segment = tcpOf(frame);
    if (segment === null) continue;
    segments += 1;
    if (segment.syn && !segment.ack) clients.add(segment.flow);
    if (segment.payload.length === 0 || !clients.has(segment.flow)) continue;
    const said = first.get(segment.flow) ?? Buffer.alloc(0);
    if (said.length < FIRST_BYTES) first.set(segment.flow, Buffer.concat([said, segment.payload]));
  }
  const kinds = [...first.values()].map((said) =>
    isClientHello(said) || isClientHello(said.subarray(startTlsLength(said))) ? 'tls' : 'plain',
  );
  return {
    segments,
    connections: clients.size,
    tls: kinds.filter((kind) => kind === 'tls').length,
    plain: kinds.filter((kind) => kind === 'plain').length,
  };
}

/** The discard service (RFC 863): what is sent there is for nobody. */
const MARK_PORT = 9;

/** Waits until a capture on a network has written all that passed until now: packets are written in their order. */
async function caughtUp(file: string, machineAddress: string): Promise<void> {
  const mark = randomUUID();
  const socket = createSocket('udp4');
  try {
    await new Promise<void>((resolve) => socket.bind(0, machineAddress, resolve));
    socket.setMulticastInterface(machineAddress);
    await until('read what passed on the wire', PATIENCE, async () => {
      // To all on that network (RFC 1112): no host has to be there for it to pass.
      socket.send(mark, MARK_PORT, '224.0.0.1');
      return (await readFile(file)).includes(mark) ? true : undefined;
    });
  } finally {
    socket.close();
  }
}

/** A stream whose beginning was left out may look as if it had not begun with TLS, or not been there. */
function throwIfLost(said: string): void {
  const [, dropped = ''] = /(\d+) packets? dropped by kernel/.exec(said) ?? [];
  if (dropped !== '0') throw new Error(`the capture lost packets: ${said}`);
}

/** So much of what a client says is enough to tell what it speaks. */
const FIRST_BYTES = 64;

function isClientHello(said: Buffer): boolean {
  return said[0] === 22 && said[1] === 3 && said[5] === 1;
}

/** How long the client's part of NBD is before TLS begins: its flags and NBD_OPT_STARTTLS (NBD protocol, "Option types"). */
function startTlsLength(said: Buffer): number {
  const option = Buffer.from('IHAVEOPT\0\0\0\x05\0\0\0\0', 'latin1');
  return said.subarray(4, 4 + option.length).equals(option) ? 4 + option.length : said.length;
}

function tcpOf(frame: Buffer) {
  const type = frame.readUInt16BE(12);
  const isV4 = type === 0x0800;
  if (!isV4 && type !== 0x86dd) return null;
  const header = isV4 ? ((frame[14] ?? 0) & 15) * 4 : 40;
  const protocol = frame[isV4 ? 23 : 20];
  const tcp = 14 + header;
  if (protocol !== 6 || frame.length < tcp + 20) return null;
  const addresses = isV4 ? frame.subarray(26, 34) : frame.subarray(22, 54);
  const flags = frame[tcp + 13] ?? 0;
  const end = 14 + (isV4 ? frame.readUInt16BE(16) : 40 + frame.readUInt16BE(18));
  return {
    flow: `${addresses.toString('hex')}:${frame.toString('hex', tcp, tcp + 4)}`,
    syn: (flags & 2) !== 0,
    ack: (flags & 16) !== 0,
    payload: frame.subarray(tcp + ((frame[tcp + 12] ?? 0) >> 4) * 4, Math.min(end, frame.length)),
  };
}
