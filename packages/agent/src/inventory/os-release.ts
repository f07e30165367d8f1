import { readFile } from 'node:fs/promises';
import { lineOf } from '@virt-trust/check/host/text.ts';
import type { Inventory } from '@virt-trust/contract/model/inventory.ts';
import type { AgentPaths } from '../state/paths.ts';

type Distribution = Inventory['distribution'];

const SIZE_LIMIT = 65_536;

/** os-release(5): which distribution this is; empty words where the file does not say. */
export function parseOsRelease(text: string): Distribution {
  const fields = new Map<string, string>();
  for (const line of text.slice(0, SIZE_LIMIT).split('\n')) {
    const found = /^\s*([A-Z][A-Z0-9_]*)=(.*)$/.exec(line);
    if (found?.[1] !== undefined && found[2] !== undefined) fields.set(found[1], unquote(found[2].trim()));
  }
  const field = (name: string) => lineOf(fields.get(name) ?? '', 200);
  return { id: field('ID'), version: field('VERSION_ID'), prettyName: field('PRETTY_NAME') };
}

/** The distribution of the host, by its /etc/os-release or /usr/lib/os-release. */
export async function readDistribution(paths: AgentPaths): Promise<Distribution> {
  for (const place of ['/etc/os-release', '/usr/lib/os-release']) {
    try {
      return parseOsRelease(await readFile(paths.at(place), 'utf8'));
    } catch {
      // The next place.
    }
  }
  return { id: '', version: '', prettyName: '' };
}

function unquote(value: string): string {
  const quoted = /^"((?:[^"\\]|\\.)*)"$/.exec(value)?.[1] ?? /^'([^']*)'$/.exec(value)?.[1];
  return (quoted ?? value).replace(/\\(["\\$`])/g, '$1');
}
