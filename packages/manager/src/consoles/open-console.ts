import { isTrustError } from '@virt-trust/base/error.ts';
import { createConsolePassword } from '@virt-trust/contract/agent/console-operations.ts';
import type { Console, ConsolePassword, OpenConsole } from '@virt-trust/contract/model/console.ts';
import type { HostsContext } from '../hosts/ports.ts';
import { chooseDisplay, isLoopback, type TlsDisplay } from './choose-display.ts';
import { displayAddress } from './display-address.ts';
import { type FoundVm, findVm } from './find-vm.ts';
import { type ServedCertificate, servedCertificate } from './served-certificate.ts';
import { encodeConnectionFile } from './vv-file.ts';

export interface ConsolesContext
  extends Pick<HostsContext, 'repository' | 'channels' | 'certificates' | 'audit'> {
  /** How long a password is good that nobody came in with. */
  readonly passwordSeconds: (host: { readonly name: string; readonly cluster: string }) => Promise<number>;
}

/** A password, or why there is none. */
type Visit = { readonly password: ConsolePassword } | { readonly password: null; readonly hint: string };

/** Finds a VM's display and makes all that a client needs to reach it; audited before it is answered. */
export async function openConsole(
  order: OpenConsole,
  actor: string,
  context: ConsolesContext,
  signal: AbortSignal,
): Promise<Console> {
  const found = await findVm(order.vm, order.host, context, signal);
  const { host } = found;
  const display = chooseDisplay(order.vm, found.displays, order.type);
  const served = servedCertificate(host, order.vm, display.type);
  const isOurs = served.kind === 'ours';
  const names = isOurs ? await context.certificates.namesOf(served.serialNumber) : null;
  const address = displayAddress(host, display, names);
  const ca = isOurs ? await context.certificates.bundle('console') : served.ca;
  const visit = await passwordFor(order.vm, found, display, context, signal);
  await context.audit.append({
    actor,
    action: 'console.open',
    subject: order.vm,
    outcome: 'done',
    detail: `${display.type} on ${host.name} at ${address} port ${display.tlsPort}, ${visit.password === null ? 'without a password' : 'with a password for one visit'}`,
  });
  const hostSubject = isOurs || display.type !== 'spice' ? null : served.hostSubject;
  const title = `${order.vm} on ${host.name}`;
  const { type, tlsPort } = display;
  const password = visit.password?.password ?? null;
  return {
    vm: order.vm,
    host: host.name,
    type,
    address,
    tlsPort,
    ca,
    authentication: display.authentication,
    password: visit.password,
    hostSubject,
    reachable: !isLoopback(display.listen),
    hint: hintsOf(found, display, served, visit).join('\n'),
    vv: encodeConnectionFile({ type, host: address, tlsPort, password, ca, title, hostSubject }),
  };
}

async function passwordFor(
  vm: string,
  { host }: FoundVm,
  { type, authentication }: TlsDisplay,
  context: ConsolesContext,
  signal: AbortSignal,
): Promise<Visit> {
  if (authentication !== 'password' && authentication !== 'certificate-and-password')
    return { password: null, hint: '' };
  const { agent } = await context.channels.of(host);
  const seconds = await context.passwordSeconds(host);
  try {
    const input = { params: { vm, type }, body: { seconds } };
    return { password: await agent.call(createConsolePassword, input, { signal }) };
  } catch (error) {
    if (isTrustError(error, 'console.own_password'))
      return { password: null, hint: "the password is the one of the VM's own configuration" };
    if (isTrustError(error, 'agent.observe_only'))
      return {
        password: null,
        hint: 'the agent of its host only looks: the password is the one that somebody gave it there',
      };
    throw error;
  }
}

function hintsOf(
  { host, lastSeenOn }: FoundVm,
  { type, listen, port, tlsPort, authentication }: TlsDisplay,
  served: ServedCertificate,
  visit: Visit,
): string[] {
  const far = !isLoopback(listen);
  const asks = authentication.startsWith('certificate');
  return [
    // SECURITY: any host can say that it runs a VM of that name, to have somebody type a password there.
    ...(lastSeenOn === ''
      ? []
      : [
          `WARNING: a VM of that name was last seen on ${lastSeenOn}, which did not answer now: be sure that it is on ${host.name}`,
        ]),
    ...(far
      ? []
      : [
          `it listens on the host's loopback alone: ssh -N -L ${tlsPort}:${listen}:${tlsPort} ${host.ssh.destination} brings it here, where its certificate has another name; or set console.listen to password, provision the host, then stop and start the VM`,
        ]),
    ...(visit.password === null && visit.hint !== '' ? [visit.hint] : []),
    ...(asks ? ['it asks for a client certificate of an authority that its host trusts for VNC'] : []),
    ...(far && authentication === 'none'
      ? [
          'WARNING: it listens on the network and asks nobody who he is: set console.listen to password, provision the host, then stop and start the VM',
        ]
      : []),
    ...(far && type === 'spice' && port !== null
      ? [
          `port ${port} of it is without TLS, and this file never goes there: <graphics type='spice' defaultMode='secure'> closes it`,
        ]
      : []),
    ...(served.kind === 'ours' && !served.isCurrent
      ? [
          'it serves the certificate that it loaded at its start; where a client refuses its name, migrate it, or stop and start it',
        ]
      : []),
  ];
}
