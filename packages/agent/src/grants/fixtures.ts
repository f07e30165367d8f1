import { randomUUID } from 'node:crypto';
import { TrustError } from '@virt-trust/base/error.ts';
import { HOUR, type Instant } from '@virt-trust/base/instant.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import type { Grant } from '@virt-trust/contract/model/grant.ts';
import { noEngines } from '../fixtures.ts';
import type { EngineFactory } from '../ports/engines.ts';
import { HostGrants } from './host-grants.ts';

/** For tests: a host with no program on it, so without a firewall. */
export const noHostCommands: RunHostCommand = (program) =>
  Promise.reject(new TrustError('command.missing', 'not-found', `cannot run ${program}: not in this test`));

/** For tests: what a manager grants a peer on loopback, at this moment and for an hour. */
export function grantFor(
  pin: string,
  change: Partial<Omit<Grant, 'peer'>> & {
    readonly peer?: Partial<Grant['peer']>;
    readonly now?: Instant;
  } = {},
): Grant {
  const { peer = {}, now = Date.now() as Instant, ...rest } = change;
  return {
    id: randomUUID(),
    role: 'destination',
    mode: 'tls',
    operations: ['preflight', 'create', 'status'],
    peer: {
      name: 'host-b',
      pins: [pin],
      addresses: ['127.0.0.1'],
      reachedAt: ['127.0.0.1'],
      port: 16518,
      ...peer,
    },
    vm: null,
    flags: 0,
    streams: 1,
    notAfter: now + HOUR,
    ...rest,
  };
}

/** For tests: parts that hold real grants, and note and answer what peers ask. */
export function grantingEngines(asked: string[] = []): EngineFactory {
  return async (context) => {
    const parts = await noEngines()(context);
    const note = (name: string, id: string) => asked.push(`${name} ${id}`);
    return {
      ...parts,
      grants: new HostGrants({
        context,
        isOver: async () => false,
        isRunning: async () => false,
        release: async (id) => void note('release', id),
      }),
      migrations: {
        ...parts.migrations,
        vmState: async ({ id }) => {
          note('vmState', id);
          return { state: 'running', reason: 'booted', phase: null };
        },
      },
      arrivals: {
        ...parts.arrivals,
        create: async ({ id }) => {
          note('create', id);
          return { relayPort: null };
        },
        end: async ({ id }) => void note('end', id),
      },
    };
  };
}
