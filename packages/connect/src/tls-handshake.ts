import type { Duplex } from 'node:stream';
import { type DetailedPeerCertificate, type TLSSocket, connect as tlsConnect } from 'node:tls';
import type { Clock } from '@virt-trust/base/clock.ts';
import { isTrustError } from '@virt-trust/base/error.ts';
import type { Checker } from '@virt-trust/libvirt/checker.ts';
import { readGnutlsCrls } from '@virt-trust/libvirt/gnutls/crl.ts';
import { verifyPeer } from '@virt-trust/libvirt/session.ts';
import { type Certificate, parseCertificate, parseCertificates } from '@virt-trust/pki/certificate.ts';
import { isDnsName } from '@virt-trust/pki/general-name.ts';
import type { Attempt } from './attempt.ts';
import { describeServed, type ServedCertificate } from './served-certificate.ts';
import { settled } from './socket.ts';

/** A client certificate with its key, in PEM. */
interface ClientIdentity {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

/** Whom to trust and as whom to come. */
export interface TlsProbeOptions {
  /** The name or address that the certificate must have; null where the chain alone is verified. */
  readonly serverName: string | null;
  /** Trusted authorities in PEM. */
  readonly trust: string;
  /** CRLs in PEM; none where left out. */
  readonly crls?: string | undefined;
  /** False takes whatever the server shows, as libvirt's `no_verify` does. */
  readonly verify?: boolean | undefined;
  readonly client?: ClientIdentity | undefined;
  readonly clock: Clock;
  /** Told what the server presented, before it is judged. */
  readonly onPresented?: ((seen: PresentedByServer) => void) | undefined;
}

/** What a server presented, whatever is made of it. */
export interface PresentedByServer extends Omit<TlsEvidence, 'servedCertificate' | 'chainVerified'> {
  readonly served: ServedCertificate | undefined;
}

/** What a handshake showed; it exists only where the server's chain, times and name were verified, or that was waived. */
export interface TlsEvidence {
  readonly servedCertificate: ServedCertificate;
  readonly chainVerified: boolean;
  /** `TLSv1.3` or `TLSv1.2`. */
  readonly protocol: string;
  readonly cipher: string;
  /** The key exchange group, such as X25519MLKEM768; `unknown` where the TLS library does not tell. */
  readonly group: string;
}

const CHAIN_LIMIT = 16;

/**
 * Makes a TLS client's handshake over a connection and verifies the server by libvirt's or QEMU's own rules, before
 * any byte is sent inside TLS. Nothing was read yet from the socket that comes back.
 */
export async function handshake(
  attempt: Attempt,
  connection: Duplex,
  options: TlsProbeOptions,
  checker: Checker,
): Promise<{ readonly socket: TLSSocket; readonly evidence: TlsEvidence }> {
  const { serverName, client } = options;
  attempt.step = 'handshake';
  const socket = attempt.own(
    tlsConnect({
      socket: connection,
      minVersion: 'TLSv1.2',
      // The verdict is ours, below: Node's own knows neither libvirt's names nor anchors that are not roots.
      rejectUnauthorized: false,
      ca: [],
      ...(serverName !== null && isDnsName(serverName) ? { servername: serverName } : {}),
      ...(client === undefined ? {} : { cert: client.certificatePem, key: client.privateKeyPem }),
    }),
  );
  await settled(socket, 'secureConnect');
  // SECURITY: no await from here to the verdict, so that nothing is sent to a server that is not verified.
  const presented = readPresented(attempt, socket);
  attempt.served = presented[0] === undefined ? undefined : describeServed(presented[0]);
  const info = socket.getEphemeralKeyInfo();
  const session = {
    protocol: socket.getProtocol() ?? 'unknown',
    cipher: socket.getCipher().name,
    group: info !== null && 'name' in info && typeof info.name === 'string' ? info.name : 'unknown',
  };
  options.onPresented?.({ served: attempt.served, ...session });
  attempt.step = 'chain';
  if (options.verify !== false) judge(attempt, presented, options, checker);
  if (attempt.served === undefined) throw attempt.failure('the server presented no certificate');
  return {
    socket,
    evidence: {
      servedCertificate: attempt.served,
      chainVerified: options.verify !== false,
      ...session,
    },
  };
}

function judge(
  attempt: Attempt,
  presented: readonly Certificate[],
  { trust, crls, serverName, clock }: TlsProbeOptions,
  checker: Checker,
): void {
  try {
    verifyPeer({
      role: 'server',
      presented,
      trusted: parseCertificates(trust),
      ...(crls === undefined ? {} : { crls: readGnutlsCrls(crls) }),
      at: clock.now(),
      checker,
      hostName: serverName ?? undefined,
    });
  } catch (error) {
    if (!isTrustError(error)) throw error;
    if (error.code === 'peer.name_mismatch') attempt.step = 'name';
    throw attempt.failure(error.message, error);
  }
}

/** The chain as the server presented it; Node links each certificate to its issuer, a root to itself. */
function readPresented(attempt: Attempt, socket: TLSSocket): Certificate[] {
  const presented: Certificate[] = [];
  let entry: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
  while (entry?.raw !== undefined && presented.length < CHAIN_LIMIT) {
    try {
      presented.push(parseCertificate(new Uint8Array(entry.raw)));
    } catch (error) {
      throw attempt.failure('the server presents a certificate that cannot be read', error);
    }
    const issuer: DetailedPeerCertificate | undefined = entry.issuerCertificate;
    entry = issuer === entry ? undefined : issuer;
  }
  return presented;
}
