import type { Endpoint } from '@virt-trust/contract/model/desired-state.ts';
import type { InterfaceView, RefusedName } from '@virt-trust/contract/model/interface.ts';
import type { InterfaceAddress } from '@virt-trust/contract/model/inventory.ts';
import { writeLine, writeTable } from './output.ts';

/** The interfaces of a host as a table, and below it what is refused of them with the way out. */
export function writeInterfaces(items: readonly InterfaceView[]): void {
  writeTable(
    ['interface', 'kind', 'up', 'roles', 'addresses', 'names', 'services'],
    items.map((one) => [
      one.name,
      kindOf(one),
      one.reported ? (one.up ? 'yes' : 'no') : 'not reported',
      rolesOf(one),
      one.addresses.map(describeAddress).join(', ') || '-',
      [...one.names.dns, ...one.names.addresses].join(', ') || '-',
      one.services.join(' ') || '-',
    ]),
  );
  const refused = items.flatMap((one) => one.refused);
  if (refused.length > 0) writeLine();
  for (const one of refused) writeRefused(one);
}

function kindOf({ kind, parent, master }: InterfaceView): string {
  const of = parent === null ? '' : ` of ${parent}`;
  const port = master === null ? '' : `, port of ${master}`;
  return `${kind === '' ? 'hardware' : kind}${of}${port}`;
}

function rolesOf({ roles, leftOut }: InterfaceView): string {
  if (roles.length > 0) return roles.map(({ role, from }) => `${role} (${from})`).join(', ');
  return leftOut === null ? '-' : `left out: ${leftOut}`;
}

function describeAddress({ address, prefixLength, deprecated, leftOut }: InterfaceAddress): string {
  const notes = [
    ...(leftOut === null ? [] : [`left out: ${leftOut}`]),
    ...(deprecated ? ['deprecated'] : []),
  ];
  return `${address}/${prefixLength}${notes.length === 0 ? '' : ` (${notes.join(', ')})`}`;
}

function writeRefused({ name, interface: place, rule, reason, hint }: RefusedName): void {
  writeLine(`refused: ${name}${place === null ? '' : ` on ${place}`}: ${reason} (${rule})`);
  if (hint !== '') writeLine(`  hint: ${hint}`);
}

/** Which service is on which interface, and under which names clients reach it there. */
export function writeEndpoints(endpoints: readonly Endpoint[]): void {
  const interfaces = [...new Set(endpoints.map((one) => one.interface))];
  writeTable(
    ['interface', 'services', 'names'],
    interfaces.map((name) => {
      const here = endpoints.filter((one) => one.interface === name);
      const names = here.flatMap((one) => [...one.names.dns, ...one.names.addresses]);
      return [name, here.map((one) => one.service).join(' '), [...new Set(names)].join(', ') || '-'];
    }),
  );
}
