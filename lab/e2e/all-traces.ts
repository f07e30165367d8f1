import { readdir, readFile } from 'node:fs/promises';
import { labDirectory } from '../src/paths.ts';
import type { LabRecord } from '../src/record.ts';
import { traces } from '../src/traces.ts';

/** Everything that the machine still has of a lab, processes that were only told of it among them. */
export async function allTraces(record: LabRecord): Promise<string[]> {
  const found = await traces(record);
  for (const pid of (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry))) {
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
    // A zombie holds nothing and goes when its parent looks.
    if (status === '' || /^State:\tZ/m.test(status)) continue;
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (command.includes(`${labDirectory(record.name)}/`)) found.push(`process ${pid} ${command}`);
  }
  return found;
}
