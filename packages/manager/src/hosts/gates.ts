import { TrustError } from '@virt-trust/base/error.ts';
import type { Gate, GateState } from '@virt-trust/contract/model/gate.ts';
import type { FoundFacts, Host } from './host.ts';

const GATES: readonly Gate[] = ['serve', 'vnc-tls', 'plain-tcp-off', 'retire-found-ca'];

/** Whether a gate was passed: nothing was found that it would take away, or it was asked for. */
export function isPassed(host: Pick<Host, 'found' | 'grantedGates'>, gate: Gate): boolean {
  return host.found === null ? false : !isNeeded(host.found, gate) || host.grantedGates.includes(gate);
}

function isNeeded(found: FoundFacts, gate: Gate): boolean {
  switch (gate) {
    case 'serve':
      return found.identities.length > 0;
    case 'vnc-tls':
      return !found.vncTls && found.vms > 0;
    case 'plain-tcp-off':
      return found.tcpListening;
    case 'retire-found-ca':
      return found.authorities.length > 0;
  }
}

/** The gates of a host, with what speaks against passing each now. `fleet` is every host of its cluster. */
export function gateStates(host: Host, fleet: readonly Host[]): GateState[] {
  return GATES.map((gate) => {
    if (host.found === null || !isNeeded(host.found, gate))
      return { gate, state: 'not-needed', blockers: [] };
    if (host.grantedGates.includes(gate)) return { gate, state: 'granted', blockers: [] };
    return { gate, state: 'waiting', blockers: blockersOf(gate, host, fleet) };
  });
}

function blockersOf(gate: Gate, host: Host, fleet: readonly Host[]): string[] {
  switch (gate) {
    case 'serve':
      return [...awaitTrust(host, fleet), ...strangers(host, fleet, 'tls', 'may know the found CA alone')];
    case 'vnc-tls':
      return [];
    case 'plain-tcp-off':
      return [
        ...(fleet.length > 1 ? [] : [alone(host)]),
        ...awaitTls(host, fleet),
        ...strangers(host, fleet, 'tcp', 'is connected over plain TCP'),
      ];
    case 'retire-found-ca':
      return [
        ...awaitServe(host, fleet),
        ...strangers(host, fleet, 'tls', 'may present a certificate of the found CA'),
        ...oldDirectories(host),
      ];
  }
}

/** Nobody but this host's peers can be seen to be ready; whoever comes over plain TCP now and then is not seen at all. */
function alone(host: Host): string {
  return `host ${host.name} is the only managed one of its cluster, so whoever else uses plain TCP is not known`;
}

/** Every peer must trust our CA before we serve under it alone. */
function awaitTrust(host: Host, fleet: readonly Host[]): string[] {
  return fleet
    .filter((peer) => peer.id !== host.id && !isSettled(peer))
    .map((peer) => `host ${peer.name} was not yet seen to trust our authorities (${peer.state})`);
}

function awaitTls(host: Host, fleet: readonly Host[]): string[] {
  return fleet
    .filter((peer) => peer.id !== host.id && !isSettled(peer))
    .map((peer) => `host ${peer.name} was not yet seen to serve TLS (${peer.state})`);
}

/** Nobody may present a certificate of the found CA any more. */
function awaitServe(host: Host, fleet: readonly Host[]): string[] {
  return fleet
    .filter(
      (peer) =>
        !isSettled(peer) ||
        peer.observed?.credentials.some((credential) => credential.identity === 'found') === true,
    )
    .map((peer) =>
      peer.id === host.id
        ? 'this host still serves the certificate that was found: pass its gate `serve` first'
        : `host ${peer.name} still serves, or is not known not to serve, a found certificate`,
    );
}

function isSettled(host: Host): boolean {
  return (
    host.state === 'secured' &&
    host.observed !== null &&
    host.observed.credentials.every((credential) => credential.phase === 'settled')
  );
}

/** Addresses that talk to this host's libvirtd and belong to no managed host. */
function strangers(host: Host, fleet: readonly Host[], transport: 'tls' | 'tcp', what: string): string[] {
  const known = new Set(
    fleet.flatMap((peer) => [...peer.declared.names.addresses, ...peer.managerAddresses]),
  );
  const seen = new Set(
    (host.inventory?.connections ?? [])
      .filter((one) => one.transport === transport)
      .map((one) => one.address),
  );
  return [...seen]
    .filter((address) => !known.has(address) || transport === 'tcp')
    .map((address) => `${address} ${what}`);
}

function oldDirectories(host: Host): string[] {
  const others = /^(?:chardev|nbd) of /;
  // Devices whose certificates are not virt-trust's own depend on no CA of its services.
  return (host.observed?.pending ?? [])
    .filter(({ what }) => !others.test(what))
    .map((pending) => `${pending.what}: ${pending.why}`);
}

/** Throws `gate.blocked`, naming the blockers, unless the gate may be passed or nothing stands behind it. */
export function assertPassable(state: GateState, hostName: string, force: boolean): void {
  if (state.state === 'waiting' && state.blockers.length > 0 && !force) {
    throw new TrustError(
      'gate.blocked',
      'conflict',
      `cannot pass gate ${state.gate} of host ${hostName}: ${state.blockers.join('; ')}`,
      {
        context: { blockers: state.blockers },
        hint: 'bring these into line first, or pass the gate with --force if you know that they do not matter',
      },
    );
  }
}
