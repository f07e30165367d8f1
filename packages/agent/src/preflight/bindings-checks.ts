import { virshDomain } from '@virt-trust/base/virsh-domain.ts';
import { FindingList } from './finding-list.ts';
import type { VmSecret } from './vm-bindings.ts';
import type { VmNeeds } from './vm-needs.ts';

/** What a destination has of what a VM's XML names of its host; null where it is not known. */
export interface BindingsFacts {
  readonly onlineCpus: ReadonlySet<number> | null;
  readonly numaNodes: ReadonlySet<number> | null;
  /** libvirt's secrets by UUID: `volume /srv/disk.img`. */
  readonly secrets: ReadonlyMap<string, string> | null;
  /** UUIDs of those that have no value for certain. */
  readonly valueless: ReadonlySet<string>;
  /** Versions of emulated TPMs; null in place of them where libvirt does not say which. */
  readonly tpm: { readonly isEmulated: boolean; readonly versions: ReadonlySet<string> | null } | null;
}

/** What a VM's XML names that a host has not, without which libvirt does not start it there. */
export function bindingsFindings(
  { name, uuid, bindings }: Pick<VmNeeds, 'name' | 'uuid' | 'bindings'>,
  facts: BindingsFacts,
  { own, peer }: { readonly own: string; readonly peer: string },
): FindingList['all'] {
  const list = new FindingList(own);
  pinnings(list, { name, uuid }, bindings.pinnings, facts.onlineCpus, { own, peer });
  const { numaNodes } = facts;
  const nodes = numaNodes === null ? [] : [...bindings.numaNodes].filter((node) => !numaNodes.has(node));
  if (nodes.length > 0)
    list.error(
      'vm.numa',
      `${name} takes memory of NUMA node ${listOf(nodes)}, and ${own} has ${listOf([...(numaNodes ?? [])])}: libvirt says there that the node is unavailable`,
      `choose another host, or take the node out of <numatune>: virsh edit ${virshDomain({ name, uuid })} on ${peer}, and restart the VM`,
    );
  for (const secret of uniqueOf(bindings.secrets)) secretFinding(list, name, secret, facts, { own, peer });
  if (bindings.tpm !== null && facts.tpm !== null) {
    const { version } = bindings.tpm;
    const { isEmulated, versions } = facts.tpm;
    if (!isEmulated || (version !== '' && versions?.has(version) === false))
      list.error(
        'vm.tpm',
        `${name} has an emulated TPM${version === '' ? '' : ` of version ${version}`}, and libvirt on ${own} has ${isEmulated ? 'none of that version' : 'no emulator for it'}: it does not start there`,
        `on ${own}: install swtpm (Debian: apt install swtpm swtpm-tools)`,
      );
  }
  return list.all;
}

/** sched_setaffinity(2): CPUs that are not there are left out, and none that is there is an error. */
function pinnings(
  list: FindingList,
  { name, uuid }: Pick<VmNeeds, 'name' | 'uuid'>,
  all: VmNeeds['bindings']['pinnings'],
  online: ReadonlySet<number> | null,
  { own, peer }: { readonly own: string; readonly peer: string },
): void {
  if (online === null) return;
  const stuck = all.filter(({ cpus }) => [...cpus].every((cpu) => !online.has(cpu)));
  const [first] = stuck;
  if (first === undefined) return;
  const parts = stuck.slice(0, 16).map(({ what, cpus }) => `${what} to ${listOf([...cpus])}`);
  const more = stuck.length - parts.length;
  const command = first.command.replace('VM', () => virshDomain({ name, uuid }));
  list.error(
    'vm.pinning',
    `${name} is pinned to host CPUs (${parts.join(', ')}${more > 0 ? ` and ${more} more` : ''}) of which ${own} has none; it has ${listOf([...online])}: libvirt cannot set CPU affinity there`,
    `pin each to CPUs that both hosts have, on ${peer}: virsh ${command} CPUS --live (and --config); or choose another host`,
  );
}

function secretFinding(
  list: FindingList,
  name: string,
  secret: VmSecret,
  { secrets, valueless }: BindingsFacts,
  { own, peer }: { readonly own: string; readonly peer: string },
): void {
  if (secrets === null) return;
  const usage = secret.kind === 'usage' ? `${secret.type} ${secret.usage}` : null;
  const uuid =
    secret.kind === 'uuid'
      ? secrets.has(secret.uuid)
        ? secret.uuid
        : undefined
      : [...secrets].find(([, one]) => one === usage)?.[0];
  const words = secret.kind === 'uuid' ? `libvirt's secret ${secret.uuid}` : `libvirt's secret for ${usage}`;
  const id = secret.kind === 'uuid' ? secret.uuid : 'UUID';
  if (uuid === undefined)
    list.error(
      'secret.missing',
      `${name} needs ${words} for ${secret.of}, and libvirt on ${own} has none such: it does not start there`,
      `bring it over: virsh secret-dumpxml ${id} > secret.xml on ${peer}${secret.kind === 'uuid' ? '' : ' (virsh secret-list)'}; on ${own}: virsh secret-define secret.xml, virsh secret-set-value ${id} --interactive`,
    );
  else if (valueless.has(uuid))
    list.error(
      'secret.no_value',
      `${name} needs ${words} for ${secret.of}, and that has no value on ${own}: it does not start there`,
      `on ${own}: virsh secret-set-value ${uuid} --interactive`,
    );
}

/** Parts of a VM may share one. */
function uniqueOf(secrets: readonly VmSecret[]): VmSecret[] {
  const keyOf = (one: VmSecret) => (one.kind === 'uuid' ? one.uuid : `${one.type} ${one.usage}`);
  return [...new Map(secrets.map((one) => [keyOf(one), one])).values()];
}

/** As libvirt writes them: `0-3,8`. */
function listOf(ids: readonly number[]): string {
  const sorted = ids.toSorted((one, other) => one - other);
  const ranges: [number, number][] = [];
  for (const id of sorted) {
    const last = ranges.at(-1);
    if (last !== undefined && last[1] + 1 === id) last[1] = id;
    else ranges.push([id, id]);
  }
  const words = ranges.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`));
  return words.slice(0, 64).join(',') || 'none';
}
