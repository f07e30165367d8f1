import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import { askPlainLibvirt } from '@virt-trust/connect/plain-libvirt.ts';
import { probeLibvirt } from '@virt-trust/connect/probe-libvirt.ts';
import type { ServedCertificate } from '@virt-trust/connect/served-certificate.ts';
import type { PreflightHandshake } from '@virt-trust/contract/model/preflight.ts';
import { LIBVIRT_TLS_PORT } from '@virt-trust/libvirt/layout.ts';
import { controlCrlOf } from '../migration/revocation.ts';
import { hostPort } from '../services/reach.ts';
import { badHandshake, goodHandshake } from './handshake-judgement.ts';
import { attemptOf, HANDSHAKE_MS, type HandshakeParts } from './handshake-parts.ts';
import { streamHandshake } from './stream-handshake.ts';

type Served = ServedCertificate | null;

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
      `let the agents' port through between the hosts (TCP 16518), and see that the agent runs: systemctl status virt-trust-agent on ${order.peer}`,
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
