import type { Service } from '@virt-trust/contract/model/service.ts';
import { type FoundManifest, foundIdentity } from '../sets/found.ts';
import { LAYOUTS } from '../sets/layout.ts';

/** Whether a reload reads what was found: libvirt's reads the default paths whatever is configured. */
export function readsDefaults(manifest: FoundManifest, service: Service): boolean {
  const { certificate } = foundIdentity(manifest, service);
  return LAYOUTS[service].links.some(({ path }) => path === certificate);
}
