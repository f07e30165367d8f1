import { readdir } from 'node:fs/promises';
import { elementAt, elementsAt, parseXml } from '@virt-trust/libvirt/xml-tree.ts';
import type { BindingsFacts } from './bindings-checks.ts';
import { mayTry } from './destination-facts.ts';
import type { LibvirtQuestions } from './libvirt-questions.ts';
import type { VmNeeds } from './vm-needs.ts';

/** Where libvirt keeps secrets that are not ephemeral: `UUID.xml`, and the value beside it once there is one. */
const SECRETS_DIRECTORY = '/etc/libvirt/secrets';

/** What a host has of what a VM's XML names. Of another than this one libvirt alone is asked; nothing reads a secret. */
export async function readBindings(
  needs: Pick<VmNeeds, 'bindings' | 'type' | 'architecture' | 'machine' | 'emulator'>,
  libvirt: LibvirtQuestions,
  isHere = true,
  directory = SECRETS_DIRECTORY,
): Promise<BindingsFacts> {
  const { pinnings, numaNodes, secrets, tpm } = needs.bindings;
  const wantsTopology = pinnings.length > 0 || numaNodes.size > 0;
  const [topology, known, emulated] = await Promise.all([
    wantsTopology ? readTopology(libvirt) : null,
    secrets.length > 0 ? readSecrets(libvirt) : null,
    tpm !== null && (!isHere || mayTry(needs.emulator)) ? readTpm(needs, libvirt) : null,
  ]);
  return {
    onlineCpus: topology?.cpus ?? null,
    numaNodes: topology?.nodes ?? null,
    secrets: known,
    valueless:
      known !== null && isHere ? await readValueless([...known.keys()], libvirt, directory) : new Set(),
    tpm: emulated,
  };
}

/** virCapabilitiesHostNUMA: nodes that are there, with their CPUs that are online. */
async function readTopology(libvirt: LibvirtQuestions) {
  const xml = await libvirt.tryAsk(['capabilities']);
  if (xml === undefined) return null;
  const cells = elementsAt(parseXml(xml), 'host', 'topology', 'cells', 'cell');
  const idOf = ({ attributes }: { attributes: ReadonlyMap<string, string> }) => Number(attributes.get('id'));
  const nodes = new Set(cells.map(idOf));
  const cpus = new Set(cells.flatMap((cell) => elementsAt(cell, 'cpus', 'cpu').map(idOf)));
  return { nodes: nodes.size === 0 ? null : nodes, cpus: cpus.size === 0 ? null : cpus };
}

async function readSecrets(libvirt: LibvirtQuestions): Promise<Map<string, string> | null> {
  const text = await libvirt.tryAsk(['secret-list']);
  if (text === undefined) return null;
  const found = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [, uuid, usage] = /^\s*([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\s+(\S.*)$/.exec(line) ?? [];
    if (uuid !== undefined && usage !== undefined) found.set(uuid, usage.trimEnd());
  }
  return found;
}

/** An ephemeral one has its value in memory alone, where only asking for it would tell. */
async function readValueless(
  uuids: readonly string[],
  libvirt: LibvirtQuestions,
  directory: string,
): Promise<Set<string>> {
  const files = await readdir(directory).catch(() => undefined);
  const found = new Set<string>();
  if (files === undefined) return found;
  for (const uuid of uuids) {
    if (files.some((file) => file.startsWith(uuid) && !file.endsWith('.xml'))) continue;
    const xml = await libvirt.tryAsk(['secret-dumpxml', uuid]);
    if (xml !== undefined && parseXml(xml).attributes.get('ephemeral') === 'no') found.add(uuid);
  }
  return found;
}

/** Null where libvirt does not run that machine at all, which is another finding. */
async function readTpm(
  { type, architecture, machine, emulator }: Pick<VmNeeds, 'type' | 'architecture' | 'machine' | 'emulator'>,
  libvirt: LibvirtQuestions,
): Promise<BindingsFacts['tpm']> {
  const given = Object.entries({
    '--virttype': type,
    '--arch': architecture,
    '--machine': machine,
    '--emulatorbin': emulator,
  }).flatMap(([option, value]) => (value === '' ? [] : [option, value]));
  const xml = await libvirt.tryAsk(['domcapabilities', ...given]);
  if (xml === undefined) return null;
  const tpm = elementAt(parseXml(xml), 'devices', 'tpm');
  // A libvirt that does not tell of TPMs (before 5.6) is not judged.
  if (tpm === undefined) return null;
  const valuesOf = (name: string) =>
    elementsAt(tpm, 'enum')
      .filter(({ attributes }) => attributes.get('name') === name)
      .map((one) => new Set(elementsAt(one, 'value').map(({ text }) => text)))[0];
  return {
    isEmulated: valuesOf('backendModel')?.has('emulator') === true,
    versions: valuesOf('backendVersion') ?? null,
  };
}
