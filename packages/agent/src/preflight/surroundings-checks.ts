import { shellWord } from '@virt-trust/base/shell-word.ts';
import { virshDomain } from '@virt-trust/base/virsh-domain.ts';
import { directoryOf } from './directory-of.ts';
import { FindingList } from './finding-list.ts';
import type { VmNeeds } from './vm-needs.ts';

/** What the destination has of what surrounds a VM; null where it was not looked at. */
export interface SurroundingsFacts {
  /** Those of the VM's network filters that are defined there. */
  readonly filters: ReadonlySet<string>;
  /** Ports on which something listens there. */
  readonly listening: ReadonlySet<number> | null;
  readonly isOwn: ((address: string) => boolean) | null;
  /** Directories of the VM's outputs that are there. */
  readonly directories: ReadonlySet<string> | null;
  /** Bytes of free huge pages of the VM's size. */
  readonly freeHugePages: number | null;
}

/** What of a VM's displays, filters, outputs and memory backing a host has not, without which QEMU does not start there. */
export function surroundingsFindings(
  { name, uuid, memoryBytes, surroundings }: Pick<VmNeeds, 'name' | 'uuid' | 'memoryBytes' | 'surroundings'>,
  facts: SurroundingsFacts,
  { own, peer }: { readonly own: string; readonly peer: string },
): FindingList['all'] {
  const list = new FindingList(own);
  const edit = `virsh edit ${virshDomain({ name, uuid })} on ${peer}, and restart the VM`;
  for (const filter of surroundings.filters)
    if (!facts.filters.has(filter))
      list.error(
        'filter.missing',
        `a card of ${name} has the network filter ${filter}, which libvirt on ${own} does not know: it does not start there`,
        `bring it over: virsh nwfilter-dumpxml ${shellWord(filter)} > filter.xml on ${peer}, virsh nwfilter-define filter.xml on ${own}`,
      );
  for (const { kind, ports, addresses } of surroundings.displays) {
    for (const port of ports)
      if (facts.listening?.has(port) === true)
        list.error(
          'display.port_taken',
          `${name} has a ${kind} display on the fixed port ${port}, on which something listens on ${own} already: it does not start there`,
          `see what it is: ss -ltnp 'sport = :${port}' on ${own}; or have the port chosen (autoport='yes'): ${edit}`,
        );
    for (const address of addresses)
      if (facts.isOwn?.(address) === false)
        list.error(
          'display.address',
          `${name} has a ${kind} display that listens at ${address}, which is no address of ${own}: it does not start there`,
          `have it listen where every host says (leave listen out) or on all addresses (listen='0.0.0.0'): ${edit}`,
        );
  }
  for (const path of surroundings.outputs)
    if (facts.directories?.has(directoryOf(path)) === false)
      list.error(
        'output.missing',
        `a serial port or console of ${name} writes to ${path}, and ${own} has no ${directoryOf(path)}: it does not start there`,
        `on ${own}: install -d ${shellWord(directoryOf(path))}`,
      );
  if (facts.freeHugePages !== null && facts.freeHugePages < memoryBytes)
    list.error(
      'memory.huge_pages',
      `${name} has ${mib(memoryBytes)} of huge pages, and ${own} has ${mib(facts.freeHugePages)} of them free: it does not start there`,
      `set more of them aside on ${own} (sysctl vm.nr_hugepages), or choose another host`,
    );
  return list.all;
}

function mib(bytes: number): string {
  return `${Math.floor(bytes / 2 ** 20)} MiB`;
}
