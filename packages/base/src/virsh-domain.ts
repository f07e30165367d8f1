import { shellWord } from './shell-word.ts';

/**
 * A VM as one word of a virsh command that people are told to type. virsh takes a word for an ID first, then for a UUID, then
 * for a name (`virshLookupDomainInternal`): a VM that is named like the ID or UUID of another one is told by its UUID, and
 * where that is not known, by where to find it.
 */
export function virshDomain({ name, uuid }: { readonly name: string; readonly uuid: string | null }): string {
  if (!/^\s*[+-]?\d+\s*$/.test(name) && name.length !== 36) return shellWord(name);
  return uuid ?? `UUID (that of ${shellWord(name)} in virsh list --all --uuid --name)`;
}
