import { readFile } from 'node:fs/promises';
import { connect, isIP } from 'node:net';
import { join } from 'node:path';
import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { askPlainLibvirt } from '@virt-trust/connect/plain-libvirt.ts';
import { probeLibvirt } from '@virt-trust/connect/probe-libvirt.ts';
import { probeNbd } from '@virt-trust/connect/probe-nbd.ts';
import type { ServedCertificate } from '@virt-trust/connect/served-certificate.ts';
import { peerServeHandshake } from '@virt-trust/contract/agent/peer-operations.ts';
import type {
  HandshakeServer,
  PreflightHandshake,
  PreflightOrder,
} from '@virt-trust/contract/model/preflight.ts';
import { LIBVIRT_TLS_PORT, QEMU_FILE_NAMES } from '@virt-trust/libvirt/layout.ts';
import type { QemuUser } from '../apply/services/qemu-process.ts';
import { hostPort } from '../apply/services/reach.ts';
import { controlCrlOf } from '../migration/revocation.ts';
import type { PeerClient } from '../peers/peer-client.ts';
import type { AgentContext } from '../ports.ts';
import type { FindingList } from './finding-list.ts';
import { type Attempted, badHandshake, goodHandshake } from './handshake-judgement.ts';
import { wordsOf } from './libvirt-questions.ts';

export interface HandshakeParts {
  readonly context: Pick<AgentContext, 'paths' | 'run' | 'clock'>;
  readonly order: PreflightOrder;
  readonly peer: PeerClient | undefined;
  readonly list: FindingList;
  readonly signal: AbortSignal;
  readonly qemu: {
    readonly directory: string;
    readonly version: string;
    readonly user: QemuUser;
    /** The CRL of migrations that this host holds; undefined where it has none. */
    readonly crl: string | undefined;
  };
  readonly libvirtVersion: string;
}

type Served = ServedCertificate | null;

const HANDSHAKE_MS = 8_000;
const QEMU_IMG_MS = 20_000;
const BUSY_TRIES = 5;
const BUSY_MS = 2_000;

/** Makes the handshakes of one side with the other, as the migration would, and adds to the findings what failed. */
export async function makeHandshakes(parts: HandshakeParts): Promise<PreflightHandshake[]> {
  const { order } = parts;
  const address = order.role === 'source' ? order.destination.streamAddress : order.sourceAddress;
  if (address === null) return [];
  const found: PreflightHandshake[] = [];
  const peerReached = await peerHandshake(parts, found);
  await Promise.all([
    order.mode === 'tls' ? libvirtHandshake(parts, found) : plainLibvirt(parts, found),
    peerReached ? streamHandshake(parts, address, found) : undefined,
  ]);
  return found;
}

/** The agents' own channel. */
async function peerHandshake(
  { order, peer, list, signal }: HandshakeParts,
  found: PreflightHandshake[],
): Promise<boolean> {
  if (peer === undefined) return false;
  const attempted = attemptOf(order, 'peer', order.peer, '(its pin)');
  try {
    const { address, pin, group } = await peer.reach(signal);
    const detail = `pins of both sides verified, ${group}`;
    found.push({ ...goodHandshake({ ...attempted, target: address }, null, detail), servedPin: pin });
    return true;
  } catch (error) {
    if (signal.aborted) throw error;
    found.push({
      ...goodHandshake(attempted, null, describeError(error)),
      outcome: isTrustError(error) && /pin|refused/.test(error.code) ? 'refused' : 'unreachable',
    });
    // Only the source's way to the destination carries a migration.
    list.add(
      order.role === 'source' ? 'error' : 'warning',
      'peer.unreachable',
      `the agent on ${order.own} does not reach the one on ${order.peer}: ${describeError(error)}: ${order.role === 'source' ? 'the two could not exchange the state of the VM' : 'where the two lose each other, nobody could be asked where the VM runs'}`,
      `let the agents' port through between the hosts (TCP 16516), and see that the agent runs: systemctl status virt-trust-agent on ${order.peer}`,
      order.peer,
    );
    return false;
  }
}

/** libvirt's TLS port at the other host, judged by libvirt's rules; without a client certificate, which is made later. */
async function libvirtHandshake(parts: HandshakeParts, found: PreflightHandshake[]): Promise<void> {
  const { order, context, list, signal, libvirtVersion } = parts;
  const isForward = order.role === 'source';
  const host = isForward ? order.destination.libvirtAddress : order.sourceAddress;
  const port = isForward ? order.destination.libvirtPort : LIBVIRT_TLS_PORT;
  if (host === null || order.controlBundle === null) return;
  const attempted = attemptOf(order, 'libvirt', hostPort(host, port), host);
  let seen: Served = null;
  try {
    const { controlBundle, controlCrl } = order;
    await probeLibvirt({
      host,
      port,
      serverName: host,
      trust: controlBundle,
      crls: await controlCrlOf(context.paths, { controlBundle, controlCrl }),
      clock: context.clock,
      checker: { program: 'libvirt', version: libvirtVersion },
      timeoutMs: HANDSHAKE_MS,
      signal,
      onPresented: ({ served }) => {
        seen = served ?? null;
      },
    });
    list.add(
      'warning',
      'trust.no_client_certificate',
      `libvirt of ${order.peer} let a client without a certificate in: whoever reaches it commands that host`,
      `take tls_no_verify_certificate out of /etc/libvirt/libvirtd.conf (virtproxyd.conf) on ${order.peer} and restart the daemon`,
      order.peer,
    );
    found.push(goodHandshake(attempted, seen, 'verified; it asks for no client certificate'));
  } catch (error) {
    if (signal.aborted) throw error;
    // With TLS 1.3 the refusal of a client without a certificate shows after the server was verified.
    found.push(
      isTrustError(error, 'probe.confirmation')
        ? goodHandshake(
            attempted,
            seen,
            'verified, up to where it asks for the client certificate, which each migration has of its own',
          )
        : badHandshake(attempted, error, seen, list),
    );
  }
}

/** Mode `plain`: whether libvirt's TCP port at the other host answers. */
async function plainLibvirt(
  { order, list, signal }: HandshakeParts,
  found: PreflightHandshake[],
): Promise<void> {
  if (order.mode !== 'plain') return;
  const isForward = order.role === 'source';
  // The destination conducts where the source has no agent.
  if (!isForward && order.hasPeerAgent) return;
  const host = isForward ? order.destination.libvirtAddress : order.sourceAddress;
  if (host === null) return;
  const port = order.destination.libvirtPort;
  const attempted = {
    ...attemptOf(order, 'libvirt', hostPort(host, port), '(nobody: plain TCP)'),
    isBack: false,
  };
  try {
    const answer = await askPlainLibvirt({ host, port, timeoutMs: HANDSHAKE_MS, signal });
    found.push(
      goodHandshake(attempted, null, `libvirt ${answer.version} of ${answer.hostName} answers without TLS`),
    );
  } catch (error) {
    if (signal.aborted) throw error;
    found.push(badHandshake(attempted, error, null, list));
  }
}

/** What carries the VM's memory: QEMU's own TLS code at both ends, or in other modes whether the port is reached. */
async function streamHandshake(
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
      `see that QEMU's user may read its files: virt-trust check on ${order.peer}; and bring them right: virt-trust host provision ${order.peer}`,
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

function attemptOf(
  { role, own, peer }: PreflightOrder,
  service: Attempted['service'],
  target: string,
  verified: string,
): Attempted {
  return { service, from: own, to: peer, target, verified, isBack: role === 'destination' };
}
