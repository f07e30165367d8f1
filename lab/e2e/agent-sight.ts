import type { AgentEvent } from '@virt-trust/contract/model/agent-event.ts';
import type { ObservedState, ServedEndpoint } from '@virt-trust/contract/model/observed-state.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';

const PATIENCE = 120_000;

/** What the agent itself says on its host, whether a manager is there or not. */
export async function observedOn(host: Host): Promise<ObservedState> {
  return JSON.parse(await host.run(['virt-trust', 'agent', 'status', '--json'])).observed;
}

/** Waits until the agent of a host says something. */
export function untilObserved<T>(
  host: Host,
  what: string,
  look: (observed: ObservedState) => T | undefined,
): Promise<T> {
  return until(what, PATIENCE, async () => {
    // The agent may be starting.
    const { code, stdout } = await host.exec(['virt-trust', 'agent', 'status', '--json']);
    return code === 0 ? look(JSON.parse(stdout).observed) : undefined;
  });
}

/** Waits until an endpoint, named by the end of its target, is in a state. */
export function untilServed(
  host: Host,
  target: string,
  state: ServedEndpoint['state'],
): Promise<ServedEndpoint> {
  return untilObserved(host, `see ${target} of ${host.name} ${state}`, ({ served }) =>
    served.find((one) => one.target.includes(target) && one.state === state),
  );
}

/** The events of the agent, oldest first. */
export async function eventsOn(host: Host): Promise<AgentEvent[]> {
  const text = await host.run(['sh', '-c', 'cat /var/lib/virt-trust/agent/events/*.jsonl']);
  // What has no end yet is being written.
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line));
}
