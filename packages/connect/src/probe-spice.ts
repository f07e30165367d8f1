import type { Checker } from '@virt-trust/libvirt/checker.ts';
import { formatDistinguishedName } from '@virt-trust/libvirt/session.ts';
import { decodeSpiceLinkReply, encodeSpiceLink } from '@virt-trust/libvirt/spice-link.ts';
import { parseCertificate } from '@virt-trust/pki/certificate.ts';
import { type ProbeTarget, runAttempt } from './attempt.ts';
import { dial, readChunk } from './socket.ts';
import { handshake, type TlsEvidence, type TlsProbeOptions } from './tls-handshake.ts';

export interface SpiceProbeOptions extends ProbeTarget, TlsProbeOptions {
  /** The subject that the certificate must have, as clients are told by `host-subject`; the name is not looked at then. */
  readonly hostSubject?: string | undefined;
}

/** What a SPICE server showed up to where a ticket would be asked for. */
export interface SpiceEvidence extends TlsEvidence {
  /** Of its protocol. */
  readonly version: string;
}

const CHECKER: Checker = { program: 'qemu', version: '7.2.0' };

/** Makes a SPICE client's exchange on the TLS port: TLS with verification, and the link messages. Throws `probe.*`. */
export function probeSpice(options: SpiceProbeOptions): Promise<SpiceEvidence> {
  return runAttempt(options, async (attempt) => {
    const { hostSubject } = options;
    const connection = await dial(attempt);
    const serverName = hostSubject === undefined ? options.serverName : null;
    const { socket, evidence } = await handshake(attempt, connection, { ...options, serverName }, CHECKER);
    if (hostSubject !== undefined) {
      attempt.step = 'name';
      const subject = formatDistinguishedName(parseCertificate(evidence.servedCertificate.der));
      if (!sameSubject(subject, hostSubject))
        throw attempt.failure(`the certificate is for ${subject}, not for ${hostSubject}`);
    }
    attempt.step = 'confirmation';
    socket.write(encodeSpiceLink());
    let received: Uint8Array = new Uint8Array();
    for (;;) {
      const chunk = await readChunk(socket);
      if (chunk === undefined) throw attempt.failure('the server closed the connection after the handshake');
      received = Buffer.concat([received, chunk]);
      const reply = decodeSpiceLinkReply(received);
      if (reply !== undefined) return { ...evidence, ...reply };
    }
  });
}

/** RDN by RDN, in the order of the certificate, as spice-gtk compares. */
function sameSubject(subject: string, wanted: string): boolean {
  const parts = (text: string) => text.split(/(?<!\\),/).map((part) => part.trim());
  return parts(subject).join('\n') === parts(wanted).join('\n');
}
