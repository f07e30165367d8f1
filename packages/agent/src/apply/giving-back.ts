import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import { SERVICES } from '@virt-trust/contract/model/service.ts';
import type { Workshop } from '../served/workshop.ts';
import { emptyJournal, type Journal } from '../sets/apply-state.ts';
import { planRemoval } from './plan.ts';
import { readsDefaults } from './reads-defaults.ts';

/** What a removal gave back, and what it could not or must not. */
export interface RemovalOutcome {
  readonly restored: string[];
  readonly left: string[];
}

/** Why a host is given back: the agent goes with it, or it stays and TLS is switched off. */
export type GivingBack =
  | { readonly kind: 'removing' }
  | { readonly kind: 'switching-off'; readonly desired: DesiredState };

/** Whether a journal gives the host back, which has no way back of its own: it is repeated until it is done. */
export function givesBack({ kind }: Pick<Journal, 'kind'>): boolean {
  return kind === 'removing' || kind === 'switching-off';
}

/** The journal that gives a host back what was found on it; of a host on which nothing was taken over, the last step alone. */
export async function givingBackJournal(workshop: Workshop, what: GivingBack): Promise<Journal> {
  const journal = emptyJournal(what.kind);
  const last = what.kind === 'removing' ? 'remove-state' : 'off-state';
  const desired = what.kind === 'removing' ? null : what.desired;
  const manifest = await workshop.found.read();
  if (manifest === undefined) return { ...journal, desired, steps: [last] };
  const { ownKeys } = await workshop.state();
  const services = SERVICES.filter((service) => manifest.identities[service] !== undefined);
  return {
    ...journal,
    desired,
    steps: [...planRemoval(services, readsDefaults(manifest, 'libvirt')), last],
    settingsChanged: ownKeys.rpc.length + ownKeys.qemu.length > 0,
  };
}
