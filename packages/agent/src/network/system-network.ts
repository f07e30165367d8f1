import { hostname } from 'node:os';
import { join } from 'node:path';
import { lineOf } from '@virt-trust/check/host/text.ts';
import { HostNetwork } from '@virt-trust/contract/model/inventory.ts';
import { readInterfaces } from '../inventory/interfaces.ts';
import type { AgentContext } from '../ports/agent-context.ts';
import { Document } from '../state/document.ts';
import { KernelWatch } from './kernel-watch.ts';
import { HostNetworkWatch } from './network-watch.ts';
import { systemTimers } from './timers.ts';

/** The watch over this host's network. The host's name is the kernel's: what no resolver says of it counts. */
export function systemNetwork({ paths, run, record, log }: AgentContext): HostNetworkWatch {
  const hostName = () => lineOf(hostname());
  return new HostNetworkWatch({
    kept: new Document(
      join(paths.agent, 'network.json'),
      HostNetwork,
      'Remove it; the next look at the network makes it anew.',
    ),
    read: async () => ({ hostName: hostName(), interfaces: await readInterfaces(run) }),
    hostName,
    waker: (wake) => new KernelWatch({ wake, log, timers: systemTimers }),
    timers: systemTimers,
    emit: record,
    log,
  });
}
