import { isIP } from 'node:net';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Interface, Inventory } from '@virt-trust/contract/model/inventory.ts';
import type { Declaration } from './host.ts';

const DNS_NAME =
  /^(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/;

export interface DeclarationInput {
  readonly hostName: string;
  /** The address that the administrator gave for SSH, where it is one. */
  readonly sshHost: string;
  readonly interface: string | undefined;
  readonly names: readonly string[];
  readonly inventory: Inventory;
}

/**
 * What the administrator accepts by adding the host: its management interface with that interface's addresses, the
 * name given and the host name reported. Throws `host.no_interface` where the interface is not clear.
 */
export function declare(input: DeclarationInput): Declaration {
  const management = managementInterface(input);
  const names = [input.hostName, ...input.names, input.inventory.hostName].map((name) =>
    name.toLowerCase().replace(/\.$/, ''),
  );
  const accepted = {
    dns: [...new Set(names.filter(isHostDnsName))].slice(0, 32),
    addresses: globalAddresses(management).slice(0, 64),
  };
  return {
    interface: management.name,
    names: accepted,
    interfaces: [{ name: management.name, roles: ['management'], names: accepted }],
    refused: [],
  };
}

/** A name that can be another machine's or this machine's own loopback is never declared for a host. */
function isHostDnsName(name: string): boolean {
  return (
    DNS_NAME.test(name) &&
    isIP(name) === 0 &&
    !/^localhost(?:\.|$)|\.localhost$/.test(name) &&
    !/^\d+$/.test(name)
  );
}

/** The addresses of an interface that clients can use: no link-local, loopback or host scope. */
function globalAddresses(one: Interface): string[] {
  return one.addresses.filter((address) => address.scope === 'global').map((address) => address.address);
}

function managementInterface(input: DeclarationInput): Interface {
  const { interfaces } = input.inventory;
  if (input.interface !== undefined) {
    const named = interfaces.find((one) => one.name === input.interface);
    if (named !== undefined && globalAddresses(named).length > 0) return named;
    throw noInterface(input, `it has no interface ${input.interface} with an address`);
  }
  const carrying = interfaces.filter((one) => globalAddresses(one).includes(input.sshHost));
  if (carrying[0] !== undefined) return carrying[0];
  const usable = interfaces.filter(
    (one) =>
      one.up &&
      one.name !== 'lo' &&
      !/^(?:virbr|vnet|tap|docker|br-)/.test(one.name) &&
      globalAddresses(one).length > 0,
  );
  if (usable.length === 1 && usable[0] !== undefined) return usable[0];
  throw noInterface(
    input,
    usable.length === 0 ? 'none has an address' : `it could be ${usable.map((one) => one.name).join(' or ')}`,
  );
}

function noInterface(input: DeclarationInput, why: string): TrustError {
  return new TrustError(
    'host.no_interface',
    'invalid',
    `cannot tell the management interface of host ${input.hostName}: ${why}`,
    {
      hint: 'name it with --interface',
    },
  );
}
