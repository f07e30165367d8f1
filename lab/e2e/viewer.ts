import { once } from 'node:events';
import { isIP, connect as tcpConnect } from 'node:net';
import { checkServerIdentity, type TLSSocket, connect as tlsConnect } from 'node:tls';
import { VencryptClient } from '@virt-trust/libvirt/vencrypt.ts';
import { canonicalIpAddress } from '@virt-trust/pki/ip-address.ts';

const PATIENCE_MS = 60_000;

/** Where a client goes, and what it wants to see there: nothing but a CA and the name that it was given. */
export interface Place {
  readonly protocol: 'tls' | 'vencrypt';
  readonly address: string;
  readonly port: number;
  /** What the certificate must be good for; the address where there is no other name. */
  readonly name?: string;
  readonly ca: string;
}

/** What a certificate says that was served and verified. */
export interface Served {
  readonly names: readonly string[];
  readonly serialNumber: string;
}

/** Connects as a client that verifies chain and name with OpenSSL, and leaves; throws where either is wrong. */
export async function servedAt(place: Place): Promise<Served> {
  const socket = await openTls(place);
  try {
    return servedBy(socket);
  } finally {
    socket.destroy();
  }
}

/** A verified connection that stays open; of VNC up to the first bytes of RFB within TLS. */
export async function openTls({ protocol, address, port, name = address, ca }: Place): Promise<TLSSocket> {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const socket = tcpConnect({ host: address, port });
  try {
    await once(socket, 'connect', { signal });
    const vencrypt = new VencryptClient();
    for (let inTls = protocol === 'tls'; !inTls; ) {
      const [chunk] = await once(socket, 'data', { signal });
      const { send, state } = vencrypt.receive(chunk);
      if (send.length > 0) socket.write(send);
      inTls = state.kind === 'tls';
    }
    socket.removeAllListeners('data');
    socket.pause();
    const tls = tlsConnect({
      socket,
      ca,
      ...(isIP(name) === 0 && { servername: name }),
      checkServerIdentity: (_, certificate) => checkServerIdentity(name, certificate),
    });
    await once(tls, 'secureConnect', { signal });
    return tls;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** The names of the certificate that a connection was opened with. */
export function servedBy(socket: TLSSocket): Served {
  const { subjectaltname = '', serialNumber } = socket.getPeerCertificate();
  return { names: namesOf(subjectaltname), serialNumber: serialNumber.toLowerCase().replace(/^0+/, '') };
}

/** Reads what OpenSSL prints of a subjectAltName, addresses in their canonical form. */
export function namesOf(subjectAltName: string): string[] {
  return subjectAltName
    .split(', ')
    .map((one) =>
      one.startsWith('IP Address:') ? canonicalIpAddress(one.slice(11)) : one.replace(/^DNS:/, ''),
    )
    .sort();
}
