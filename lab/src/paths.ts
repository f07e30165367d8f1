import { join } from 'node:path';

/** Where built roots are cached; deleting it costs a rebuild. */
export const CACHE_DIRECTORY = '/var/cache/virt-trust/lab';

/** Where labs keep what they are: a directory for each lab. */
export const STATE_DIRECTORY = '/var/lib/virt-trust-lab';

/** The directory of one lab. */
export function labDirectory(lab: string): string {
  return join(STATE_DIRECTORY, lab);
}

/** The directory of one host of a lab: the layers of its disk and its console. */
export function hostDirectory(lab: string, host: string): string {
  return join(labDirectory(lab), host);
}
