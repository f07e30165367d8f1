import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { NETWORK_NAMES, type NetworkName } from './network-plan.ts';
import { labDirectory, STATE_DIRECTORY } from './paths.ts';

const FORMAT = 1;
const FILE = 'lab.json';
/** In the environment of all that a run of the tests starts: the run's name, by which its labs and processes are known. */
export const TEST_RUN = 'VIRT_TRUST_TEST_RUN';

/** What a lab is made of: written before any of it is made, so that whatever was made can be found again. */
export interface LabRecord {
  readonly name: string;
  readonly index: number;
  readonly hosts: readonly string[];
  readonly networks: readonly NetworkName[];
  /** The lower layer that the hosts' disks were begun on. */
  readonly root: string;
  /** The process that brought the lab up, for messages (its lock says whether it lives), or nobody's any more. */
  readonly owner: number | 'detached';
  /** The run of the tests that it was made in: with that it goes. */
  readonly testRun?: string | undefined;
}

/** Throws `lab.name` unless the text can be a name of a lab or host: it becomes part of paths and host names. */
export function checkName(kind: 'lab' | 'host', text: string): void {
  if (/^[a-z](?:[a-z0-9-]{0,22}[a-z0-9])?$/.test(text) && text !== 'ssh') return;
  throw new TrustError(
    'lab.name',
    'invalid',
    `cannot use ${JSON.stringify(text.slice(0, 60))} as the name of a ${kind}: it takes 1 to 24 of a-z, 0-9 and -, beginning with a letter`,
  );
}

/** Writes the record, whole or not at all. */
export async function writeRecord(record: LabRecord): Promise<void> {
  const directory = labDirectory(record.name);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const unfinished = join(directory, `${FILE}.unfinished`);
  await writeFile(unfinished, `${JSON.stringify({ format: FORMAT, ...record }, undefined, 2)}\n`, {
    flush: true,
  });
  await rename(unfinished, join(directory, FILE));
}

/** The record of a lab, or undefined if there is none; throws `lab.record`. */
export async function readRecord(name: string): Promise<LabRecord | undefined> {
  const path = join(labDirectory(name), FILE);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw recordError(path, describeError(error));
  }
  return parseRecord(text, path);
}

/** Parses a record; throws `lab.record` naming the file. */
export function parseRecord(text: string, path: string): LabRecord {
  let value: Partial<Record<keyof LabRecord | 'format', unknown>>;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw recordError(path, describeError(error));
  }
  if (value?.format !== FORMAT) throw recordError(path, `its format is not ${FORMAT}`);
  const { name, index, hosts, networks, root, owner, testRun } = value;
  if (typeof name !== 'string' || typeof root !== 'string')
    throw recordError(path, 'name or root is missing');
  if (!Number.isInteger(index) || (owner !== 'detached' && !Number.isInteger(owner)))
    throw recordError(path, 'index or owner is missing');
  if (!isTexts(hosts) || !isTexts(networks)) throw recordError(path, 'hosts or networks is missing');
  const known = networks.filter((network): network is NetworkName =>
    NETWORK_NAMES.some((one) => one === network),
  );
  if (known.length !== networks.length)
    throw recordError(path, `it has a network that is not one of ${NETWORK_NAMES}`);
  for (const text of [name, ...hosts]) checkName('host', text);
  return {
    name,
    index: index as number,
    hosts,
    networks: known,
    root,
    owner: owner as LabRecord['owner'],
    ...(typeof testRun === 'string' ? { testRun } : {}),
  };
}

/** All labs that have a record; what cannot be read is left out. */
export async function allRecords(): Promise<LabRecord[]> {
  const names = await readdir(STATE_DIRECTORY).catch((): string[] => []);
  const records = await Promise.all(names.map((name) => readRecord(name).catch(() => undefined)));
  return records.filter((record) => record !== undefined);
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function recordError(path: string, reason: string): TrustError {
  return new TrustError('lab.record', 'failed', `cannot read ${path}: ${reason}`, {
    hint: 'if the lab is of another version, `virt-trust lab down --delete-state` of that version removes it',
  });
}
