import type { Configuration, ConfigurationValue } from '@virt-trust/libvirt/configuration.ts';

/** A change of one key of a configuration; `unset` lets libvirt's default hold. */
export type Edit =
  | { readonly kind: 'set'; readonly key: string; readonly value: ConfigurationValue }
  | { readonly kind: 'unset'; readonly key: string };

/**
 * The configuration as it shall be: what stands there now, with our keys as they must be, and keys that were ours
 * and no longer are as they were found. All other lines stay, edits that somebody made meanwhile included.
 */
export function applyEdits(
  now: Configuration,
  found: Configuration,
  edits: readonly Edit[],
  ownKeys: readonly string[],
): void {
  const keys = new Set(edits.map(({ key }) => key));
  for (const key of ownKeys) if (!keys.has(key)) restoreKey(now, found, key);
  for (const edit of edits) {
    if (edit.kind === 'unset') now.unset(edit.key);
    else now.set(edit.key, edit.value);
  }
}

/** Gives a key back what was found; one that says that already is not touched. */
export function restoreKey(now: Configuration, found: Configuration, key: string): void {
  const valuesIn = (configuration: Configuration) =>
    JSON.stringify(
      configuration.entries().flatMap((entry) => (entry.key === key ? [String(entry.value)] : [])),
    );
  if (now.get(key) === undefined || valuesIn(now) !== valuesIn(found)) now.restore(key, found);
}

/** The keys that do not say what they must. */
export function unmetEdits(now: Configuration, edits: readonly Edit[]): string[] {
  return edits
    .filter((edit) => {
      const value = now.get(edit.key);
      return edit.kind === 'unset'
        ? value !== undefined
        : JSON.stringify(value) !== JSON.stringify(edit.value);
    })
    .map(({ key }) => key);
}
