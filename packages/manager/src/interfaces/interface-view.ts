import type { InterfaceView, RefusedName } from '@virt-trust/contract/model/interface.ts';
import type { Interface } from '@virt-trust/contract/model/inventory.ts';
import { endpointsOf, interfacesOf } from '../hosts/desired-state.ts';
import type { Host } from '../hosts/host.ts';
import { interfacesByName, reportOf } from '../hosts/network-report.ts';
import type { RoleGiven } from './roles.ts';

/** All that is known, wanted and refused of a host's interfaces, as reported first, then those that only words are of; pure. */
export function interfaceViews(host: Host, rolesOf: (name: string) => readonly RoleGiven[]): InterfaceView[] {
  const reported = [...interfacesByName(reportOf(host)).values()];
  const spokenOf = [
    ...host.declared.interfaces.map((one) => one.name),
    ...Object.keys(host.word.interfaces),
    ...host.declared.refused.flatMap((one) => (one.interface === null ? [] : [one.interface])),
  ];
  const known = new Set(reported.map((one) => one.name));
  const missing = [...new Set(spokenOf)].filter((name) => !known.has(name));
  const endpoints = endpointsOf(host);
  const refused = refusedByInterface(host, [...known, ...missing]);
  const viewOf = (one: Interface, isReported: boolean): InterfaceView => ({
    ...one,
    reported: isReported,
    roles: [...rolesOf(one.name)],
    names: host.declared.interfaces.find(({ name }) => name === one.name)?.names ?? {
      dns: [],
      addresses: [],
    },
    refused: (refused.get(one.name) ?? []).slice(0, 128),
    services: endpoints.filter((endpoint) => endpoint.interface === one.name).map(({ service }) => service),
  });
  return [
    ...reported.map((one) => viewOf(one, true)),
    ...missing.map((name) => viewOf(unreported(name), false)),
  ].slice(0, 512);
}

/** The host's own name would be management's, so that is where its refusal is told. */
function refusedByInterface(
  { declared }: Host,
  names: readonly string[],
): ReadonlyMap<string, readonly RefusedName[]> {
  const [management] = interfacesOf(declared, 'management');
  const own = management?.name ?? declared.interface ?? names[0];
  const map = new Map<string, RefusedName[]>();
  for (const one of declared.refused) {
    const name = one.interface ?? own;
    if (name !== undefined) map.set(name, [...(map.get(name) ?? []), one]);
  }
  return map;
}

function unreported(name: string): Interface {
  return {
    name,
    up: false,
    kind: '',
    macAddress: '',
    master: null,
    parent: null,
    leftOut: null,
    addresses: [],
  };
}
