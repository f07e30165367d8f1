import { once } from 'node:events';
import { type AddressInfo, createServer as createNetServer, type Server, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { createServer as createTlsServer, TLSSocket, type TlsOptions } from 'node:tls';
import { encodePacket, type RpcPacket, RpcPacketReader } from '@virt-trust/libvirt/rpc.ts';
import type { TestIdentity } from '@virt-trust/libvirt/test-certificates.ts';
import { encodeXdrUnsigned } from '@virt-trust/libvirt/xdr.ts';

/** Servers that speak just the wire of libvirtd and QEMU; for tests alone. */
export interface TestServer {
  readonly port: number;
  /** All bytes that came inside TLS. */
  readonly received: () => Buffer;
  /** Settles when the connection that came is over. */
  readonly closed: Promise<void>;
}

/** Listens on 127.0.0.1 until the test is over. */
async function listen(t: TestContext, server: Server, sockets: Set<Socket>): Promise<number> {
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** A server of raw TCP. */
export async function serveTcp(t: TestContext, serve: (socket: Socket) => void): Promise<number> {
  return listen(t, createNetServer(serve), new Set());
}

export interface LibvirtdOptions {
  readonly identity: TestIdentity;
  /** Certificates sent behind the leaf. */
  readonly intermediates?: readonly TestIdentity[];
  /** Without it every client is accepted, as with tls_no_verify_certificate. */
  readonly clientAuthority?: TestIdentity;
  readonly tls?: TlsOptions;
  /** What is sent once a client was accepted. */
  readonly confirmation?: Uint8Array;
  /** The answer to each call; nothing where it gives none. */
  readonly answer?: (call: RpcPacket) => Uint8Array | undefined;
}

/** An answer to a call. */
export function reply(call: RpcPacket, payload: Uint8Array, status = 0): Uint8Array {
  return encodePacket({ ...call, type: 1, status, payload });
}

const AUTH_NONE = Buffer.concat([encodeXdrUnsigned(1), encodeXdrUnsigned(0)]);

/** libvirtd on the wire: TLS, a check of the client after the handshake, the confirmation byte, RPC. */
export async function serveLibvirtd(t: TestContext, options: LibvirtdOptions): Promise<TestServer> {
  const { identity, intermediates = [], clientAuthority, confirmation = Buffer.of(1) } = options;
  const answer = options.answer ?? ((call) => reply(call, AUTH_NONE));
  const received: Buffer[] = [];
  const closed = Promise.withResolvers<void>();
  const server = createTlsServer({
    key: identity.keyPem,
    cert: [identity, ...intermediates].map(({ pem }) => pem).join(''),
    ca: clientAuthority?.pem ?? [],
    requestCert: true,
    // As GnuTLS in libvirtd: the handshake ends first, then the certificate is looked at.
    rejectUnauthorized: false,
    ...options.tls,
  });
  server.on('tlsClientError', () => closed.resolve());
  server.on('secureConnection', (socket) => {
    socket.on('error', () => {});
    socket.on('close', () => closed.resolve());
    if (clientAuthority !== undefined && !socket.authorized) {
      socket.end();
      return;
    }
    const reader = new RpcPacketReader();
    socket.on('data', (bytes: Buffer) => {
      received.push(bytes);
      for (const call of reader.push(bytes)) {
        const bytesOfAnswer = answer(call);
        if (bytesOfAnswer !== undefined) socket.write(bytesOfAnswer);
      }
    });
    if (confirmation.length > 0) socket.write(confirmation);
  });
  const port = await listen(t, server, new Set());
  return { port, received: () => Buffer.concat(received), closed: closed.promise };
}

/** QEMU's VNC server on the wire: RFB, VeNCrypt with one subtype, TLS, and its first bytes inside. */
export async function serveVnc(
  t: TestContext,
  options: { identity: TestIdentity; subtype: number; clientAuthority?: TestIdentity; greeting?: Uint8Array },
): Promise<number> {
  const { identity, subtype, clientAuthority, greeting = Buffer.alloc(4) } = options;
  const choice = Buffer.alloc(4);
  choice.writeUInt32BE(subtype);
  return serveTcp(t, (socket) => {
    const script: { length: number; send: Uint8Array }[] = [
      { length: 12, send: Buffer.of(1, 19) },
      { length: 1, send: Buffer.of(0, 2) },
      { length: 2, send: Buffer.concat([Buffer.of(0, 1), choice]) },
      { length: 4, send: Buffer.of(1) },
    ];
    const onReadable = (): void => {
      for (let step = script[0]; step !== undefined; step = script[0]) {
        if (socket.read(step.length) === null) return;
        script.shift();
        socket.write(step.send);
      }
      socket.off('readable', onReadable);
      const secure = new TLSSocket(socket, {
        isServer: true,
        key: identity.keyPem,
        cert: identity.pem,
        ca: clientAuthority?.pem ?? [],
        requestCert: clientAuthority !== undefined,
        rejectUnauthorized: false,
      });
      secure.on('error', () => {});
      secure.on('secure', () => {
        if (clientAuthority !== undefined && secure.getPeerX509Certificate() === undefined) secure.end();
        else secure.write(greeting);
      });
    };
    socket.on('readable', onReadable);
    socket.write('RFB 003.008\n');
  });
}
