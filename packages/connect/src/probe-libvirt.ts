import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { Checker } from '@virt-trust/libvirt/checker.ts';
import {
  type AuthType,
  CONNECT_READ_ONLY,
  decodeAuthList,
  decodeHostname,
  decodeReply,
  encodeCall,
  encodeConnectOpen,
  PROCEDURES,
  RpcPacketReader,
  TLS_CONFIRMATION,
} from '@virt-trust/libvirt/rpc.ts';
import { type Attempt, type ProbeTarget, runAttempt } from './attempt.ts';
import { dial, readChunk } from './socket.ts';
import { handshake, type TlsEvidence, type TlsProbeOptions } from './tls-handshake.ts';

/** What is probed, whom to trust, as whom to come. */
export interface LibvirtProbeOptions extends ProbeTarget, TlsProbeOptions {
  /** By whose rules the server's certificate is judged; the strictest libvirt's where left out. */
  readonly checker?: Checker;
  /** Opens this connection read-only and asks for the host's name too, such as `qemu:///system`. */
  readonly openUri?: string;
}

/** What a libvirt daemon showed: mutual trust, as the confirmation byte and the answer prove both directions. */
export interface LibvirtEvidence extends TlsEvidence {
  readonly confirmationByte: true;
  /** What it demands beside the certificate: `none`, `sasl`, `polkit`. */
  readonly authList: readonly AuthType[];
  /** The host's name as libvirt says it; only with `openUri`. */
  readonly hostName: string | undefined;
}

const STRICTEST: Checker = { program: 'libvirt', version: '9.0.0' };
const REFUSED = 'the server closed the connection after the handshake: it refuses';

/**
 * Makes libvirt's real handshake: TLS with verification by libvirt's rules, the confirmation byte (with TLS 1.3 a
 * refused client certificate shows only there), AUTH_LIST. Throws `probe.*`, its code naming the step.
 */
export function probeLibvirt(options: LibvirtProbeOptions): Promise<LibvirtEvidence> {
  return runAttempt(options, async (attempt) => {
    const connection = await dial(attempt);
    const { socket, evidence } = await handshake(attempt, connection, options, options.checker ?? STRICTEST);
    attempt.step = 'confirmation';
    const rest = await readConfirmation(attempt, socket, options.client !== undefined);
    const rpc = new RpcSession(attempt, socket, rest);
    attempt.step = 'auth_list';
    const authList = decodeAuthList(await rpc.call(PROCEDURES.authList));
    let hostName: string | undefined;
    if (options.openUri !== undefined) {
      attempt.step = 'hostname';
      await rpc.call(PROCEDURES.connectOpen, encodeConnectOpen(options.openUri, CONNECT_READ_ONLY));
      hostName = decodeHostname(await rpc.call(PROCEDURES.connectGetHostname));
      await rpc.call(PROCEDURES.connectClose);
    }
    return { ...evidence, confirmationByte: true, authList, hostName };
  });
}

/**
 * Connects to a libvirt daemon over TLS as the probe does, up to its confirmation that it takes our certificate; its RPC
 * is what follows on the socket. Throws `probe.*`.
 */
export function connectLibvirtTls(options: LibvirtProbeOptions): Promise<TLSSocket> {
  const attempt = async (attempt: Attempt) => {
    const connection = await dial(attempt);
    const { socket } = await handshake(attempt, connection, options, options.checker ?? STRICTEST);
    attempt.step = 'confirmation';
    const rest = await readConfirmation(attempt, socket, options.client !== undefined);
    if (rest.length > 0) socket.unshift(rest);
    return socket;
  };
  return runAttempt(options, attempt, { keepOpen: true });
}

/** Waits for the byte 0x01; returns what came behind it. */
async function readConfirmation(
  attempt: Attempt,
  socket: TLSSocket,
  withClient: boolean,
): Promise<Uint8Array> {
  const whom = withClient ? 'our client certificate' : 'a client without a certificate';
  let chunk: Uint8Array | undefined;
  try {
    chunk = await readChunk(socket);
  } catch (error) {
    if (attempt.ended) throw error;
    throw attempt.failure(`${REFUSED} ${whom}`, error);
  }
  if (chunk === undefined) throw attempt.failure(`${REFUSED} ${whom}`);
  if (chunk[0] !== TLS_CONFIRMATION) {
    throw attempt.failure(`the server sent byte ${chunk[0]} where libvirt confirms with ${TLS_CONFIRMATION}`);
  }
  return chunk.subarray(1);
}

/** Calls of libvirt's RPC over a stream, one after the other. */
export class RpcSession {
  readonly #attempt: Attempt;
  readonly #socket: Duplex;
  readonly #reader = new RpcPacketReader();
  #pending: Uint8Array;
  #serial = 0;

  constructor(attempt: Attempt, socket: Duplex, pending: Uint8Array = new Uint8Array()) {
    this.#attempt = attempt;
    this.#socket = socket;
    this.#pending = pending;
  }

  /** One call and its answer; events in between are passed over. */
  async call(procedure: number, payload?: Uint8Array): Promise<Uint8Array> {
    const serial = ++this.#serial;
    this.#socket.write(encodeCall(procedure, serial, payload));
    for (;;) {
      const packets = this.#reader.push(this.#pending);
      this.#pending = new Uint8Array();
      for (const packet of packets) {
        const reply = decodeReply(packet, procedure, serial);
        if (reply.kind === 'ok') return reply.payload;
        if (reply.kind === 'error') {
          throw this.#attempt.failure(`libvirt answers: ${JSON.stringify(reply.error.message)}`);
        }
      }
      const chunk = await readChunk(this.#socket);
      if (chunk === undefined)
        throw this.#attempt.failure('the server closed the connection without an answer');
      this.#pending = chunk;
    }
  }
}
