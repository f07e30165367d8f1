import { isIP } from 'node:net';
import { type Grant, PEER_PORT } from '@virt-trust/contract/model/grant.ts';
import { interfacesOf } from '../hosts/desired-state.ts';
import type { Host } from '../hosts/host.ts';
import { reportOf } from '../hosts/network-report.ts';

/** What a grant says of the other agent: its pins, from where it may come, and where it is reached, `first` before all. */
export function grantPeerOf(peer: Host, first: readonly string[]): Grant['peer'] {
  return {
    name: peer.name,
    pins: [...peer.agentPins].slice(0, 4),
    addresses: knownAddressesOf(peer).slice(0, 64),
    reachedAt: [...new Set([...first, ...reachableAddressesOf(peer)])].slice(0, 16),
    port: peer.observed?.capabilities?.peerPort ?? PEER_PORT,
  };
}

/** Where another agent may reach a host, the best first. */
function reachableAddressesOf(host: Host): string[] {
  const migration = interfacesOf(host.declared, 'migration').flatMap(({ names }) => names.addresses);
  return [...migration, ...host.declared.names.addresses, ...channelAddressOf(host)];
}

/** From where a host may come. */
function knownAddressesOf(host: Host): string[] {
  const reported = (reportOf(host)?.interfaces ?? [])
    .flatMap(({ addresses }) => addresses)
    .filter(({ scope }) => scope === 'global')
    .map(({ address }) => address);
  return [...new Set([...reachableAddressesOf(host), ...reported])];
}

function channelAddressOf({ channel }: Host): string[] {
  return isIP(channel.address) === 0 ? [] : [channel.address];
}
