import { readFile } from 'node:fs/promises';
import { connect, isIP } from 'node:net';
import { join } from 'node:path';
import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { probeNbd } from '@virt-trust/connect/probe-nbd.ts';
import type { ServedCertificate } from '@virt-trust/connect/served-certificate.ts';
import { peerServeHandshake } from '@virt-trust/contract/agent/peer-operations.ts';
import type { HandshakeServer, PreflightHandshake } from '@virt-trust/contract/model/preflight.ts';
import { QEMU_FILE_NAMES } from '@virt-trust/libvirt/layout.ts';
import { hostPort } from '../services/reach.ts';
import { badHandshake, goodHandshake } from './handshake-judgement.ts';
import { attemptOf, HANDSHAKE_MS, type HandshakeParts, QEMU_IMG_MS } from './handshake-parts.ts';
import { wordsOf } from './libvirt-questions.ts';

type Served = ServedCertificate | null;

const BUSY_TRIES = 5;
const BUSY_MS = 2_000;

/** What carries the VM's memory: QEMU's own TLS code at both ends, or in other modes whether the port is reached. */
export async function streamHandshake(
  parts: HandshakeParts,
  address: string,
  found: PreflightHandshake[],
): Promise<void> {
  const { order, list, signal } = parts;
  let server: HandshakeServer;
  try {
    server = await askedServer(parts, address);
  } catch (error) {
    if (signal.aborted) throw error;
    const attempted = attemptOf(order, 'migration', address, address);
    list.add(
      order.role === 'source' ? 'error' : 'warning',
      'qemu.cannot_serve',
      `${order.peer} cannot serve a migration: ${describeError(error)}`,
      cannotServeFix(error, order.peer),
      order.peer,
    );
    found.push({ ...goodHandshake(attempted, null, describeError(error)), outcome: 'refused' });
    return;
  }
  const name = (order.role === 'source' ? order.destination.tlsDestination : null) ?? address;
  const attempted = attemptOf(
    order,
    'migration',
    hostPort(address, server.port),
    order.mode === 'tls' ? name : '(nobody)',
  );
  let seen: Served = null;
  try {
    if (order.mode === 'tls') {
      seen = await ownNbdHandshake(parts, address, server.port, name, (served) => {
        seen = served;
      });
      await withQemu(parts, address, server.port, name);
      found.push(
        goodHandshake(attempted, seen, "both ends verified by QEMU's own TLS code, as the QEMU user"),
      );
    } else {
      await reach(address, server.port, signal);
      found.push(
        goodHandshake(
          attempted,
          null,
          `reached, as ${order.mode === 'pinned' ? 'the relay' : 'the stream'} would be`,
        ),
      );
    }
  } catch (error) {
    if (signal.aborted) throw error;
    found.push(badHandshake(attempted, error, seen, list));
  }
}

/** What the peer says of its ports and of others' handshakes is the way out itself; of its files more can be said. */
function cannotServeFix(error: unknown, peer: string): string {
  const own = isTrustError(error) && error.code !== 'preflight.cannot_serve' ? error.hint : undefined;
  return (
    own ??
    `see that QEMU's user may read its files: virt-trust check on ${peer}; and bring them right: virt-trust host provision ${peer}`
  );
}

/** As the peer lets it: a host that is asked by many has us wait. */
async function askedServer(
  { order, peer, signal }: HandshakeParts,
  address: string,
): Promise<HandshakeServer> {
  if (peer === undefined) throw new TrustError('peer.none', 'internal', 'cannot ask: there is no peer');
  for (let attempt = 1; ; attempt++) {
    try {
      return await peer.api.call(
        peerServeHandshake,
        { params: { id: order.id }, body: { address } },
        { signal },
      );
    } catch (error) {
      if (attempt === BUSY_TRIES || !isTrustError(error, 'preflight.busy')) throw error;
      await new Promise((resolve) => setTimeout(resolve, BUSY_MS));
      signal.throwIfAborted();
    }
  }
}

/**
 * A handshake of our own with QEMU's server, which shows what is served. SECURITY: judged by this host's CRL, too, at
 * which a QEMU never looks as a source.
 */
async function ownNbdHandshake(
  { context, qemu, signal }: HandshakeParts,
  host: string,
  port: number,
  name: string,
  onServed: (served: Served) => void,
): Promise<ServedCertificate> {
  const read = (file: string) => readFile(context.paths.at(join(qemu.directory, file)), 'utf8');
  const evidence = await probeNbd({
    host,
    port,
    serverName: name,
    trust: await read(QEMU_FILE_NAMES.caCertificate),
    crls: qemu.crl,
    client: {
      certificatePem: await read(QEMU_FILE_NAMES.clientCertificate),
      privateKeyPem: await read(QEMU_FILE_NAMES.clientKey),
    },
    clock: context.clock,
    checker: { program: 'qemu', version: qemu.version },
    timeoutMs: HANDSHAKE_MS,
    signal,
    onPresented: ({ served }) => onServed(served ?? null),
  });
  return evidence.servedCertificate;
}

/** QEMU's client with its own files, under the name that it will verify. */
async function withQemu(
  { context, qemu, signal }: HandshakeParts,
  host: string,
  port: number,
  name: string,
): Promise<void> {
  const credentials = `tls-creds-x509,id=tls0,endpoint=client,dir=${qemu.directory},verify-peer=on`;
  const image = `driver=nbd,server.type=inet,server.host=${host},server.port=${port},tls-creds=tls0,tls-hostname=${name}`;
  try {
    await context.run('qemu-img', ['info', '--object', credentials, '--image-opts', image], {
      uid: qemu.user.uid,
      gid: qemu.user.gid,
      timeoutMs: QEMU_IMG_MS,
      signal,
    });
  } catch (error) {
    throw new TrustError('probe.qemu', 'failed', `QEMU itself refuses: ${wordsOf(error)}`, { cause: error });
  }
}

async function reach(host: string, port: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const limit = AbortSignal.any([signal, AbortSignal.timeout(HANDSHAKE_MS)]);
  const socket = connect({ host, port, family: isIP(host), signal: limit });
  socket.once('connect', () => resolve());
  socket.once('error', (cause) =>
    reject(
      new TrustError(
        'probe.connect',
        'unavailable',
        `cannot reach ${host} port ${port}: ${describeError(cause)}`,
        {
          cause,
        },
      ),
    ),
  );
  try {
    await promise;
  } finally {
    socket.destroy();
  }
}
