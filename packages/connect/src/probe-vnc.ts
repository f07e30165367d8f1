import type { Duplex } from 'node:stream';
import type { Checker } from '@virt-trust/libvirt/checker.ts';
import { VencryptClient } from '@virt-trust/libvirt/vencrypt.ts';
import { type Attempt, type ProbeTarget, runAttempt } from './attempt.ts';
import { dial, readChunk } from './socket.ts';
import { handshake, type TlsEvidence, type TlsProbeOptions } from './tls-handshake.ts';

/** What a VNC server showed up to where a password would be asked for. */
export interface VncEvidence extends TlsEvidence {
  /** VeNCrypt's subtype, such as `X509None`. */
  readonly subtype: string;
  /**
   * Whether the server went on after TLS, and so accepted our certificate or asked for none: false where it is the
   * client's turn to speak (X509Plain), which leaves that open.
   */
  readonly accepted: boolean;
}

/** A client that checks as QEMU's own code does: chain, times and name. */
const CHECKER: Checker = { program: 'qemu', version: '7.2.0' };

/**
 * Makes the real exchange of a VNC client: RFB 3.8, VeNCrypt, TLS with verification, and the server's first bytes
 * after it; it stops before any password. Throws `probe.*`, its code naming the step.
 */
export function probeVnc(options: ProbeTarget & TlsProbeOptions): Promise<VncEvidence> {
  return runAttempt(options, async (attempt) => {
    const connection = await dial(attempt);
    attempt.step = 'vencrypt';
    const subtype = await negotiate(attempt, connection);
    const { socket, evidence } = await handshake(attempt, connection, options, CHECKER);
    if (subtype === 'X509Plain') return { ...evidence, subtype, accepted: false };
    attempt.step = 'confirmation';
    let first: Uint8Array | undefined;
    try {
      first = await readChunk(socket);
    } catch (error) {
      if (attempt.ended) throw error;
      throw attempt.failure('the server refuses us after the handshake', error);
    }
    if (first === undefined) throw attempt.failure('the server closed the connection after the handshake');
    return { ...evidence, subtype, accepted: true };
  });
}

async function negotiate(attempt: Attempt, connection: Duplex): Promise<string> {
  const client = new VencryptClient();
  for (;;) {
    const chunk = await readChunk(connection);
    if (chunk === undefined) throw attempt.failure('the server closed the connection before TLS');
    const { send, state } = client.receive(chunk);
    if (send.length > 0) connection.write(send);
    if (state.kind === 'tls') return state.subtype;
  }
}
