import { TrustError } from '@virt-trust/base/error.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { Host, HostRepository } from './host.ts';

/**
 * Throws `host.key_of_another` where one of the keys that a host says are its own is another host's.
 *
 * SECURITY: everybody who connects to an agent sees its key. Who could add that to his own would have the manager take the
 * other's agent for his: where it announces itself, what it reports, and what it is told to serve.
 */
export async function refuseKeysOfOthers(
  host: Pick<Host, 'id' | 'name'>,
  pins: readonly SpkiPin[],
  repository: Pick<HostRepository, 'list'>,
): Promise<void> {
  const other = (await repository.list()).find(
    ({ id, agentPins }) => id !== host.id && agentPins.some((pin) => pins.includes(pin)),
  );
  if (other === undefined) return;
  throw new TrustError(
    'host.key_of_another',
    'conflict',
    `cannot take the keys of host ${host.name}: one of them is host ${other.name}'s`,
    {
      context: { host: host.name, holder: other.name },
      hint: `where they are copies of one machine, or one machine under two names, remove the agent from one (virt-trust host remove) and add it anew; else host ${host.name} lies`,
    },
  );
}
