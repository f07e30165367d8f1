import { join } from 'node:path';

/** Every path that the agent uses, below one root so that tests can run under a temporary one. */
export interface AgentPaths {
  readonly root: string;
  /** 0711: QEMU passes through it to its credentials. */
  readonly state: string;
  /** 0700, as all below it. */
  readonly agent: string;
  readonly identity: string;
  /** The install order as it holds now: mode, port, addresses of managers. */
  readonly order: string;
  readonly managers: string;
  /** Addresses at which a manager proved its key after the installation. */
  readonly provenAddresses: string;
  readonly events: string;
  readonly firewall: string;
  /** What managers let other agents ask. */
  readonly grants: string;
  readonly desiredState: string;
  readonly journal: string;
  readonly services: string;
  readonly found: string;
  /** The effective libvirtd.conf and qemu.conf. */
  readonly effectiveEtc: string;
  readonly run: string;
  readonly socket: string;
  readonly migrations: string;
  readonly unit: string;
  /** Of the guard that runs before libvirt at boot. */
  readonly guardUnit: string;
  readonly program: string;
  readonly programLink: string;
  /** Where an absolute path of the host lies below the root. */
  at(hostPath: string): string;
}

/** The paths of the agent below a root directory, which is `/` outside tests. */
export function agentPaths(root = '/'): AgentPaths {
  const at = (hostPath: string) => join(root, hostPath);
  const state = at('/var/lib/virt-trust');
  const agent = join(state, 'agent');
  const run = at('/run/virt-trust');
  return {
    root,
    state,
    agent,
    identity: join(agent, 'identity'),
    order: join(agent, 'order.json'),
    managers: join(agent, 'managers.json'),
    provenAddresses: join(agent, 'proven-addresses.json'),
    events: join(agent, 'events'),
    firewall: join(agent, 'firewall.json'),
    grants: join(agent, 'grants.json'),
    desiredState: join(agent, 'desired-state.json'),
    journal: join(agent, 'journal.json'),
    services: join(state, 'services'),
    found: join(state, 'found'),
    effectiveEtc: join(state, 'etc'),
    run,
    socket: join(run, 'agent.sock'),
    migrations: join(run, 'migrations'),
    unit: at('/etc/systemd/system/virt-trust-agent.service'),
    guardUnit: at('/etc/systemd/system/virt-trust-guard.service'),
    program: at('/usr/local/lib/virt-trust/virt-trust'),
    programLink: at('/usr/local/bin/virt-trust'),
    at,
  };
}
