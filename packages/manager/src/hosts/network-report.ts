import type { HostNetwork, Interface } from '@virt-trust/contract/model/inventory.ts';
import type { Host } from './host.ts';

/** What a host last said of its name and interfaces: as they came to rest, or before the first such word as they were read. */
export function reportOf({ observed, inventory }: Pick<Host, 'observed' | 'inventory'>): HostNetwork | null {
  const report = observed?.network ?? inventory;
  // A kernel has a loopback at the least: where there is nothing, nobody looked.
  if (report === null || report.interfaces.length === 0) return null;
  // Kept before agents said which addresses are for clients: nothing follows from what it does not say.
  return report.interfaces.every((one) => 'leftOut' in one) ? report : null;
}

/**
 * The interfaces of a report by name, in the order of their names. SECURITY: of two under one name, which no kernel has,
 * always the same one is taken, in whatever order they come.
 */
export function interfacesByName(report: HostNetwork | null): ReadonlyMap<string, Interface> {
  const byName = new Map<string, Interface>();
  for (const one of report?.interfaces ?? []) {
    const other = byName.get(one.name);
    if (other === undefined || JSON.stringify(one) < JSON.stringify(other)) byName.set(one.name, one);
  }
  return new Map([...byName].sort(([a], [b]) => (a < b ? -1 : 1)));
}
