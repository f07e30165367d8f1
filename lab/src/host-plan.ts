import { join } from 'node:path';
import { type InterfacePlan, planInterfaces, planNetworks } from './network-plan.ts';
import { hostDirectory, labDirectory } from './paths.ts';
import type { LabRecord } from './record.ts';

/** Everything about a host that follows from its lab's record: names, addresses, places. */
export interface HostPlan {
  readonly lab: string;
  readonly name: string;
  /** The container's name on the machine. */
  readonly machine: string;
  readonly namespace: string;
  readonly interfaces: readonly InterfacePlan[];
  readonly directory: string;
  readonly lower: string;
  readonly upper: string;
  readonly work: string;
  readonly mountPoint: string;
  readonly console: string;
}

/** The plans of all hosts of a lab, in their order. */
export function planHosts(record: LabRecord): HostPlan[] {
  const networks = planNetworks(record.index, record.networks);
  return record.hosts.map((name, position) => {
    const directory = hostDirectory(record.name, name);
    return {
      lab: record.name,
      name,
      machine: `vtlab${record.index}-${name}`,
      namespace: `vtlab${record.index}-${name}`,
      interfaces: planInterfaces(record.index, position, networks),
      directory,
      lower: record.root,
      upper: join(directory, 'upper'),
      work: join(directory, 'work'),
      mountPoint: join(directory, 'root'),
      console: join(directory, 'console.log'),
    };
  });
}

/** The lab's own SSH key pair, whose public half every host takes for root. */
export function sshKeyPath(lab: string): string {
  return join(labDirectory(lab), 'ssh', 'id_ed25519');
}
