import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { access, mkdir, rm } from 'node:fs/promises';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { type TestContext, test } from 'node:test';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import { systemClock } from '@virt-trust/base/clock.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import { ALPN_AGENT_TO_AGENT, ALPN_MIGRATION_STREAM } from '@virt-trust/channel/alpn.ts';
import { identityOf } from '@virt-trust/channel/fixtures.ts';
import { channelTlsOptions } from '@virt-trust/channel/tls-options.ts';
import type { Grant } from '@virt-trust/contract/model/grant.ts';
import {
  authList,
  connectOpen,
  domainGetXmlDesc,
  domainMigratePrepare3Params,
  RPC_PROGRAMS,
} from '@virt-trust/libvirt/migration-protocol.ts';
import { migrationXmlDigest } from '@virt-trust/libvirt/migration-xml.ts';
import { encodePacket, RpcPacketReader } from '@virt-trust/libvirt/rpc.ts';
import { temporaryRoot } from '../fixtures.ts';
import { RelayServer, type RelayServerOptions } from './relay-server.ts';
import { makeSocketDirectory, migrationSockets, unixUri } from './sockets.ts';
import { openStreams, type SourceStreams } from './source-streams.ts';

const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
const source = identityOf('agent');
const destination = identityOf('agent');
const stranger = identityOf('agent');
/** Not those of a host that runs relays. */
const PORTS = { min: 26520, max: 26583 };

function grantOf(over: Partial<Grant> = {}): Grant {
  return {
    id: randomUUID(),
    role: 'destination',
    mode: 'pinned',
    operations: ['create', 'status', 'rpc', 'stream', 'disks'],
    peer: {
      name: 'a',
      pins: [source.pin],
      addresses: ['127.0.0.1'],
      reachedAt: ['127.0.0.1'],
      port: 16518,
    },
    vm: {
      name: 'web',
      uuid: randomUUID(),
      xmlSha256: '0'.repeat(64),
      persistentXmlSha256: null,
      copiedDisks: ['vda'],
    },
    flags: 1,
    streams: 4,
    notAfter: (Date.now() + 60_000) as Instant,
    ...over,
  };
}

interface Pair {
  readonly grant: Grant;
  readonly relay: RelayServer;
  readonly refused: string[];
  readonly cutOff: string[];
  readonly root: string;
  streams(options?: Partial<Parameters<typeof openStreams>[0]>): Promise<SourceStreams>;
}

/** A relay with a libvirt and a QEMU behind it, which are what the test makes of their connections. */
async function relayed(
  t: TestContext,
  behind: { qemu?: (socket: Socket) => void; libvirt?: (socket: Socket) => void } = {},
  over: Partial<Grant> = {},
  options: Partial<RelayServerOptions> = {},
): Promise<Pair> {
  const grant = grantOf(over);
  const root = await temporaryRoot(t);
  const sockets = migrationSockets(join(root, 'd'), grant.id, 'web');
  await makeSocketDirectory(sockets, own);
  await mkdir(join(root, 'run'));
  const libvirtSocket = join(root, 'run/libvirt-sock');
  for (const [path, serve] of [
    [sockets.stream, behind.qemu],
    [sockets.disks, behind.qemu],
    [libvirtSocket, behind.libvirt],
  ] as const) {
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => {});
      t.after(() => socket.destroy());
      serve?.(socket);
    });
    server.listen(path);
    await once(server, 'listening');
    t.after(() => server.close());
  }
  const refused: string[] = [];
  const cutOff: string[] = [];
  const relay = await RelayServer.listen({
    grant,
    identity: destination,
    sockets,
    libvirtSocket,
    clock: systemClock,
    ports: PORTS,
    onRefused: (_address, reason) => refused.push(reason),
    onCutOff: (reason) => cutOff.push(reason),
    ...options,
  });
  t.after(() => relay.close());
  return {
    grant,
    relay,
    refused,
    cutOff,
    root,
    async streams(rest = {}) {
      const opened = await openStreams({
        id: grant.id,
        vm: 'web',
        root: join(root, 's'),
        qemu: own,
        peer: { reachedAt: ['127.0.0.1'], port: relay.port, pins: [destination.pin] },
        identity: source,
        disks: true,
        streams: 4,
        ...rest,
      });
      t.after(() => opened.close());
      return opened;
    },
  };
}

const pathOf = (uri: string | null) => decodeURIComponent(new URL(uri ?? '').pathname);

test('what QEMU writes at the source arrives at the destination, and what it answers comes back', async (t) => {
  const bytes = randomBytes(20 << 20);
  const received: Uint8Array[] = [];
  const pair = await relayed(t, {
    qemu: (socket) => {
      socket.on('data', (chunk) => received.push(chunk as Buffer));
      socket.on('end', () => socket.end('seen'));
    },
  });
  const streams = await pair.streams();
  const qemu = connect({ path: pathOf(streams.streamUri), allowHalfOpen: true });
  qemu.end(bytes);
  const answer: Buffer[] = [];
  for await (const chunk of qemu) answer.push(chunk as Buffer);
  assert.equal(Buffer.concat(answer).toString(), 'seen');
  assert.ok(Buffer.concat(received).equals(bytes));
  assert.deepEqual(streams.used(), { peerPin: destination.pin, group: 'X25519MLKEM768', streams: 1 });
  assert.deepEqual(pair.refused, []);
});

test('a destination that reads nothing stops the source after the buffers in between', async (t) => {
  const gotten = Promise.withResolvers<Socket>();
  const pair = await relayed(t, { qemu: (socket) => gotten.resolve(socket.pause()) });
  const streams = await pair.streams();
  const qemu = connect({ path: pathOf(streams.streamUri) });
  const chunk = Buffer.alloc(1 << 20);
  let written = 0;
  const waits = Promise.withResolvers<void>();
  // Each megabyte is written when the kernel took the one before: it stops for good when every buffer is full.
  const write = () => {
    const bound = setTimeout(waits.resolve, 1000);
    qemu.write(chunk, (error) => {
      clearTimeout(bound);
      if (error) return;
      written += chunk.length;
      if (written < 1 << 30) write();
    });
  };
  write();
  await waits.promise;
  assert.ok(written < 48 << 20, `${written} bytes are held`);
  // And goes on when it reads again.
  const destinationQemu = await gotten.promise;
  const before = written;
  destinationQemu.resume();
  while (written <= before) await once(destinationQemu, 'data');
  qemu.destroy();
});

test('four parallel connections and disks at once are four connections and one more', async (t) => {
  const pair = await relayed(t, { qemu: (socket) => socket.pipe(socket) });
  const streams = await pair.streams();
  const echo = async (uri: string | null, text: string) => {
    const socket = connect({ path: pathOf(uri), allowHalfOpen: true });
    socket.end(text);
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks).toString();
  };
  const texts = ['1', '2', '3', '4'];
  const answers = await Promise.all([
    ...texts.map((text) => echo(streams.streamUri, text)),
    echo(streams.disksUri, 'nbd'),
  ]);
  assert.deepEqual(answers, [...texts, 'nbd']);
  assert.equal(streams.used()?.streams, 5);
});

test('QEMU’s main connection arrives before those that it makes after it, however slow its way is', async (t) => {
  const arrived: string[] = [];
  const all = Promise.withResolvers<void>();
  const pair = await relayed(t, {
    qemu: (socket) => {
      const index = arrived.push('') - 1;
      socket.once('data', (chunk) => {
        arrived[index] = String(chunk);
        if (arrived.length === 4 && !arrived.includes('')) all.resolve();
      });
    },
  });
  let connections = 0;
  const way = createServer((socket) => {
    const onward = connect({ host: '127.0.0.1', port: pair.relay.port });
    for (const each of [socket, onward]) {
      each.on('error', () => {});
      t.after(() => each.destroy());
    }
    onward.pipe(socket);
    if (connections++ === 0) setTimeout(() => socket.pipe(onward), 300);
    else socket.pipe(onward);
  });
  way.listen(0, '127.0.0.1');
  await once(way, 'listening');
  t.after(() => way.close());
  const { port } = way.address() as AddressInfo;
  const streams = await pair.streams({
    peer: { reachedAt: ['127.0.0.1'], port, pins: [destination.pin] },
  });
  for (const name of ['main', 'first', 'second', 'third']) {
    const qemu = connect({ path: pathOf(streams.streamUri) });
    t.after(() => qemu.destroy());
    qemu.write(name);
    await once(qemu, 'connect');
  }
  await all.promise;
  assert.equal(arrived[0], 'main');
  assert.deepEqual(arrived.toSorted(), ['first', 'main', 'second', 'third']);
});

test('a stream whose QEMU is gone at the destination is told of in words', async (t) => {
  const pair = await relayed(t);
  const broken = Promise.withResolvers<string>();
  const streams = await pair.streams({ onBroken: broken.resolve });
  await rm(migrationSockets(join(pair.root, 'd'), pair.grant.id, 'web').stream);
  const qemu = connect({ path: pathOf(streams.streamUri) });
  qemu.on('error', () => {});
  assert.match(await broken.promise, /cannot pass a stream on to the other host's QEMU/);
  await closed(qemu);
});

test('where the destination’s QEMU goes, the source’s sees the end', async (t) => {
  const pair = await relayed(t, { qemu: (socket) => socket.destroy() });
  const streams = await pair.streams();
  const qemu = connect({ path: pathOf(streams.streamUri) });
  qemu.on('error', () => {});
  await closed(qemu);
});

test('a source that is closed leaves no socket', async (t) => {
  const pair = await relayed(t);
  const streams = await pair.streams();
  await streams.close();
  await assert.rejects(access(join(pathOf(streams.streamUri), '..')), { code: 'ENOENT' });
});

const closed = (stream: Duplex) => new Promise<void>((resolve) => stream.once('close', () => resolve()));

/** A connection by hand; resolves with what came before it was closed. */
async function byHand(options: ConnectionOptions, first = 'hello'): Promise<string> {
  const socket = connectTls({ host: '127.0.0.1', rejectUnauthorized: false, ...options });
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => chunks.push(chunk as Buffer));
  socket.on('error', () => {});
  socket.once('secureConnect', () => socket.write(first));
  await closed(socket);
  return Buffer.concat(chunks).toString();
}

const hostile: readonly [
  string,
  RegExp,
  (pair: Pair) => ConnectionOptions,
  Partial<Grant>?,
  Partial<RelayServerOptions>?,
][] = [
  ['a stranger’s key', /is not that of the grant/, () => channelTlsOptions(stranger)],
  ['no certificate', /no-certificate/, () => ({ minVersion: 'TLSv1.3', maxVersion: 'TLSv1.3' })],
  [
    'TLS 1.2',
    /unsupported|version|ERR_SSL/i,
    () => ({ ...channelTlsOptions(source), minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' }),
  ],
  ['another grant', /another grant/, () => ({ ...channelTlsOptions(source), servername: randomUUID() })],
  ['no grant', /another grant/, () => ({ ...channelTlsOptions(source), servername: '' })],
  [
    'another door’s ALPN',
    /alpn|ERR_SSL/i,
    () => ({ ...channelTlsOptions(source), ALPNProtocols: [ALPN_AGENT_TO_AGENT] }),
  ],
  ['no ALPN', /alpn/, () => ({ ...channelTlsOptions(source), ALPNProtocols: [] })],
  [
    'a grant that expired',
    /expired/,
    () => channelTlsOptions(source),
    { notAfter: (Date.now() - 1) as Instant },
  ],
  [
    'another address',
    /address/,
    () => channelTlsOptions(source),
    { peer: { ...grantOf().peer, addresses: ['192.0.2.1'] } },
  ],
  [
    'a kind of stream that was not granted',
    /alpn|ERR_SSL/i,
    () => channelTlsOptions(source),
    { operations: ['rpc'] },
  ],
];

for (const [what, reason, tls, over] of hostile) {
  test(`a connection with ${what} is closed before a byte of it is used`, async (t) => {
    let reached = 0;
    const pair = await relayed(t, { qemu: () => reached++, libvirt: () => reached++ }, over);
    const answer = await byHand({
      port: pair.relay.port,
      servername: pair.grant.id,
      ALPNProtocols: [ALPN_MIGRATION_STREAM],
      ...tls(pair),
    });
    assert.equal(answer, '');
    assert.equal(reached, 0);
    assert.equal(pair.refused.length, 1);
    assert.match(pair.refused[0] ?? '', reason);
  });
}

const call = (
  { program, number, args }: { program: number; number: number; args: { encode(value: never): Uint8Array } },
  value: object,
  serial: number,
) =>
  encodePacket({
    program,
    version: 1,
    procedure: number,
    type: 0,
    serial,
    status: 0,
    payload: args.encode(value as never),
  });

const XML = '<domain/>';

/** A relay whose QEMU and libvirt give back what they get, and whose grant's time can be ended. */
async function expiring(t: TestContext): Promise<{ pair: Pair; expire: () => void }> {
  let now = Date.now();
  const vm = grantOf().vm;
  assert.ok(vm);
  const echo = (socket: Socket) => socket.pipe(socket);
  const libvirt = (socket: Socket) => {
    const reader = new RpcPacketReader();
    socket.on('data', (chunk) => {
      for (const packet of reader.push(chunk as Buffer))
        socket.write(encodePacket({ ...packet, type: 1, payload: new Uint8Array() }));
    });
  };
  const over = { vm: { ...vm, xmlSha256: migrationXmlDigest(XML) }, notAfter: (now + 1000) as Instant };
  const clock = { now: () => now as Instant };
  const pair = await relayed(t, { qemu: echo, libvirt }, over, { clock });
  return {
    pair,
    expire: () => {
      now += 2000;
    },
  };
}

test('a grant that expires while a stream runs does not cut it, and lets nothing new in', async (t) => {
  const { pair, expire } = await expiring(t);
  const streams = await pair.streams();
  const qemu = connect({ path: pathOf(streams.streamUri) });
  qemu.write('before');
  await once(qemu, 'data');
  expire();
  qemu.write('after');
  const [answer] = (await once(qemu, 'data')) as [Buffer];
  assert.equal(answer.toString(), 'after');
  const late = connect({ path: pathOf(streams.streamUri) });
  late.on('error', () => {});
  await closed(late);
  qemu.destroy();
});

test('a migration that was prepared opens its streams and disks after the grant’s time too, and nothing else', async (t) => {
  const { pair, expire } = await expiring(t);
  const { id } = pair.grant;
  const streams = await pair.streams();
  const rpc = await streams.rpc();
  rpc.write(call(authList, {}, 1));
  rpc.write(call(connectOpen, { uri: 'qemu:///system', flags: 0 }, 2));
  const { stream, disks } = migrationSockets(join(pair.root, 'd'), id, 'web');
  const params = [
    ['destination_xml', XML],
    ['migrate_uri', unixUri(stream)],
    ['disks_uri', unixUri(disks)],
  ].map(([name, value]) => ({ name, kind: 'string', value }));
  rpc.write(call(domainMigratePrepare3Params, { params, cookieIn: new Uint8Array(), flags: 1 }, 3));
  while (!pair.relay.hasBegun) await once(rpc, 'data');
  expire();
  for (const uri of [streams.streamUri, streams.streamUri, streams.disksUri]) {
    const late = connect({ path: pathOf(uri) });
    late.write('late');
    const [answer] = (await once(late, 'data')) as [Buffer];
    assert.equal(answer.toString(), 'late');
    late.destroy();
  }
  const another = await streams.rpc();
  await closed(another.resume());
  assert.match(pair.refused.join(), /expired/);
  assert.deepEqual(pair.cutOff, []);
});

test('a source that calls what is no part of a migration loses every stream, and libvirt never sees the call', async (t) => {
  const seen: number[] = [];
  const pair = await relayed(t, {
    qemu: (socket) => socket.pipe(socket),
    libvirt: (socket) => {
      const reader = new RpcPacketReader();
      socket.on('data', (chunk) => {
        for (const packet of reader.push(chunk as Buffer)) {
          seen.push(packet.procedure);
          const payload = packet.procedure === 66 ? authList.result.encode({ types: [0] }) : new Uint8Array();
          socket.write(encodePacket({ ...packet, type: 1, payload }));
        }
      });
    },
  });
  const streams = await pair.streams();
  const qemu = connect({ path: pathOf(streams.streamUri) });
  qemu.on('error', () => {});
  qemu.write('memory');
  await once(qemu, 'data');
  const rpc = await streams.rpc();
  rpc.write(call(authList, {}, 1));
  await once(rpc, 'data');
  rpc.write(call(connectOpen, { uri: 'qemu:///system', flags: 0 }, 2));
  await once(rpc, 'data');
  const gone = Promise.all([closed(qemu), closed(rpc)]);
  const domain = { name: 'web', uuid: pair.grant.vm?.uuid ?? '', id: 1 };
  rpc.write(call(domainGetXmlDesc, { domain, flags: 1 }, 3));
  await gone;
  assert.deepEqual(seen, [authList.number, connectOpen.number]);
  assert.equal(pair.cutOff.length, 1);
  assert.match(
    pair.cutOff[0] ?? '',
    new RegExp(`procedure ${domainGetXmlDesc.number} .*${RPC_PROGRAMS.remote.toString(16)}`),
  );
  assert.equal(pair.relay.use.open, 0);
  await assert.rejects(streams.rpc(), { code: 'relay.unreachable' });
});

test('the peer that answers with another key than the grant’s gets no byte', async (t) => {
  const pair = await relayed(t);
  const streams = await pair.streams({
    peer: { reachedAt: ['127.0.0.1'], port: pair.relay.port, pins: [stranger.pin] },
  });
  await assert.rejects(streams.rpc(), { code: 'relay.untrusted' });
});

test('a session is never resumed: each connection proves its key', async (t) => {
  const pair = await relayed(t, { qemu: (socket) => socket.pipe(socket) });
  const options = {
    ...channelTlsOptions(source),
    host: '127.0.0.1',
    port: pair.relay.port,
    servername: pair.grant.id,
    ALPNProtocols: [ALPN_MIGRATION_STREAM],
    rejectUnauthorized: false,
  };
  const echo = async (socket: TLSSocket) => {
    socket.on('error', () => {});
    socket.once('secureConnect', () => socket.write('x'));
    await once(socket, 'data');
    const reused = socket.isSessionReused();
    socket.destroy();
    return reused;
  };
  let session: unknown;
  const first = connectTls(options);
  first.on('session', (given: unknown) => {
    session = given;
  });
  assert.equal(await echo(first), false);
  assert.ok(Buffer.isBuffer(session));
  assert.equal(await echo(connectTls({ ...options, session })), false);
});
