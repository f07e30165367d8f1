import type { Duplex } from 'node:stream';
import type { Checker } from '@virt-trust/libvirt/checker.ts';
import { type Attempt, type ProbeTarget, runAttempt } from './attempt.ts';
import { dial, readChunk } from './socket.ts';
import { handshake, type TlsEvidence, type TlsProbeOptions } from './tls-handshake.ts';

/** What is probed, whom to trust, as whom to come. */
export interface NbdProbeOptions extends ProbeTarget, TlsProbeOptions {
  /** By whose rules the server's certificate is judged. */
  readonly checker: Checker;
}

/** NBD's protocol, "Protocol phases": `NBDMAGIC` and `IHAVEOPT`. */
const MAGIC = Buffer.from('NBDMAGICIHAVEOPT', 'latin1');
const GREETING_LENGTH = 18;
/** `NBD_FLAG_C_FIXED_NEWSTYLE` and `NBD_FLAG_C_NO_ZEROES`. */
const CLIENT_FLAGS = 3;
const OPT_STARTTLS = 5;
const REPLY_MAGIC = 0x0003_e889_0455_65a9n;
const REPLY_LENGTH = 20;
const REP_ACK = 1;

/**
 * Makes the handshake of an NBD client up to TLS (`NBD_OPT_STARTTLS`), with verification by QEMU's rules: QEMU's
 * migration credentials are seen so, which `qemu-nbd` can serve. Throws `probe.*`.
 */
export function probeNbd(options: NbdProbeOptions): Promise<TlsEvidence> {
  return runAttempt(options, async (attempt) => {
    const connection = await dial(attempt);
    attempt.step = 'handshake';
    const greeting = await readExactly(attempt, connection, GREETING_LENGTH);
    if (!greeting.subarray(0, MAGIC.length).equals(MAGIC))
      throw attempt.failure('the server does not speak NBD');
    connection.write(startTls());
    const reply = await readExactly(attempt, connection, REPLY_LENGTH);
    if (reply.readBigUInt64BE(0) !== REPLY_MAGIC || reply.readUInt32BE(8) !== OPT_STARTTLS)
      throw attempt.failure('the server does not answer as NBD does');
    if (reply.readUInt32BE(12) !== REP_ACK || reply.readUInt32BE(16) !== 0)
      throw attempt.failure('the server has no TLS');
    const { evidence } = await handshake(attempt, connection, options, options.checker);
    return evidence;
  });
}

function startTls(): Buffer {
  const bytes = Buffer.alloc(20);
  bytes.writeUInt32BE(CLIENT_FLAGS, 0);
  bytes.write('IHAVEOPT', 4, 'latin1');
  bytes.writeUInt32BE(OPT_STARTTLS, 12);
  return bytes;
}

/** SECURITY: no byte more than asked for is taken for NBD's: what comes behind it belongs to TLS. */
async function readExactly(attempt: Attempt, socket: Duplex, length: number): Promise<Buffer> {
  let received = Buffer.alloc(0);
  for (;;) {
    const chunk = await readChunk(socket);
    if (chunk === undefined) throw attempt.failure('the server closed the connection');
    received = Buffer.concat([received, chunk]);
    if (received.length > length) throw attempt.failure('the server says more than NBD lets it');
    if (received.length === length) return received;
  }
}
