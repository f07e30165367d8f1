import { readFile } from 'node:fs/promises';

/** The distribution's identifier and code name as os-release(5) gives them; empty where it does not. */
export interface OsRelease {
  readonly id: string;
  readonly codename: string;
  readonly prettyName: string;
}

/** Parses the text of an os-release(5) file. */
export function parseOsRelease(text: string): OsRelease {
  const values = new Map<string, string>();
  for (const line of text.split('\n')) {
    const match = /^([A-Z0-9_]+)=(?:"(.*)"|'(.*)'|(.*))$/.exec(line.trim());
    if (match?.[1] !== undefined) values.set(match[1], match[2] ?? match[3] ?? match[4] ?? '');
  }
  const id = values.get('ID') ?? '';
  return { id, codename: values.get('VERSION_CODENAME') ?? '', prettyName: values.get('PRETTY_NAME') ?? id };
}

/** The os-release(5) of the machine; empty where it has none. */
export async function machineOsRelease(): Promise<OsRelease> {
  return parseOsRelease(await readFile('/etc/os-release', 'utf8').catch(() => ''));
}
