import { elementAt, elementsAt, type XmlElement } from '@virt-trust/libvirt/xml-tree.ts';

/** Host CPUs to which a part of a VM is pinned. */
interface VmPinning {
  /** `vCPU 0`, `the emulator`, `I/O thread 1`. */
  readonly what: string;
  readonly cpus: ReadonlySet<number>;
  /** The arguments of the virsh command that pins it anew, between the VM and the CPUs. */
  readonly command: string;
}

/** One of libvirt's secrets that QEMU is started with. */
export type VmSecret =
  | { readonly kind: 'uuid'; readonly uuid: string; readonly of: string }
  /** `volume`, `ceph`, `iscsi`; and what that is for. */
  | { readonly kind: 'usage'; readonly type: string; readonly usage: string; readonly of: string };

/** What a VM's XML names of its host that another one may have otherwise: CPUs, NUMA nodes, secrets, a TPM's emulator. */
export interface VmBindings {
  readonly pinnings: readonly VmPinning[];
  readonly numaNodes: ReadonlySet<number>;
  readonly secrets: readonly VmSecret[];
  /** Of an emulated TPM, its version as libvirt writes it; empty where it does not. */
  readonly tpm: { readonly version: string } | null;
}

/** libvirt's VIR_DOMAIN_CPUMASK_LEN; of NUMA nodes there are fewer. */
const MOST_IDS = 16_384;
/** Secrets and pinnings that are looked at: a source's word, which costs no more than that. */
const MOST_PARTS = 512;
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
/** SECURITY: goes into a command that people copy. */
const ID = /^\d{1,5}$/;

/** Reads it of libvirt's domain XML. */
export function bindingsOf(domain: XmlElement): VmBindings {
  const backend = elementsAt(domain, 'devices', 'tpm')
    .map((tpm) => elementAt(tpm, 'backend'))
    .find((one) => one?.attributes.get('type') === 'emulator');
  const disks = elementsAt(domain, 'devices', 'disk').flatMap(secretsOfDisk);
  const encryption = backend === undefined ? undefined : elementAt(backend, 'encryption');
  const vtpm = encryption?.attributes.get('secret')?.toLowerCase() ?? '';
  return {
    pinnings: pinningsOf(domain),
    numaNodes: numaNodesOf(domain),
    secrets: [
      ...disks,
      ...(UUID.test(vtpm) ? [{ kind: 'uuid', uuid: vtpm, of: 'the TPM' } as const] : []),
    ].slice(0, MOST_PARTS),
    tpm: backend === undefined ? null : { version: backend.attributes.get('version') ?? '' },
  };
}

/**
 * As qemuProcessSetupPid of libvirt 9.0 has it: what is pinned by itself, else what `<vcpu cpuset>` says of all. vCPUs that
 * are not plugged in have no thread.
 */
function pinningsOf(domain: XmlElement): VmPinning[] {
  const vcpu = elementAt(domain, 'vcpu');
  const common = vcpu?.attributes.get('cpuset') ?? '';
  const own = (name: string, key: string) =>
    new Map(
      elementsAt(domain, 'cputune', name).map(({ attributes }) => [
        attributes.get(key) ?? '',
        attributes.get('cpuset') ?? '',
      ]),
    );
  const [vcpus, threads] = [own('vcpupin', 'vcpu'), own('iothreadpin', 'iothread')];
  const emulator = elementAt(domain, 'cputune', 'emulatorpin')?.attributes.get('cpuset');
  const parts = [
    ...presentVcpus(domain, vcpu).map((id) => ({
      what: `vCPU ${id}`,
      cpus: vcpus.get(id) ?? common,
      command: `vcpupin VM ${id}`,
    })),
    {
      what: 'the emulator',
      cpus: emulator ?? common,
      command: 'emulatorpin VM',
    },
    ...ioThreads(domain).map((id) => ({
      what: `I/O thread ${id}`,
      cpus: threads.get(id) ?? common,
      command: `iothreadpin VM ${id}`,
    })),
  ];
  const known = new Map<string, Set<number>>();
  return parts.slice(0, MOST_PARTS).flatMap(({ cpus: text, ...part }) => {
    const cpus = known.get(text) ?? idsOf(text);
    known.set(text, cpus);
    return cpus.size > 0 ? [{ ...part, cpus }] : [];
  });
}

function presentVcpus(domain: XmlElement, vcpu: XmlElement | undefined): string[] {
  const each = elementsAt(domain, 'vcpus', 'vcpu');
  if (each.length > 0)
    return each
      .filter(({ attributes }) => attributes.get('enabled') === 'yes')
      .map(({ attributes }) => attributes.get('id') ?? '')
      .filter((id) => ID.test(id));
  const count = vcpu?.attributes.get('current') ?? vcpu?.text ?? '';
  return /^\d{1,4}$/.test(count) ? Array.from({ length: Number(count) }, (_, id) => String(id)) : [];
}

function ioThreads(domain: XmlElement): string[] {
  const named = elementsAt(domain, 'iothreadids', 'iothread').map(({ attributes }) => attributes.get('id'));
  if (named.length > 0) return named.filter((id) => id !== undefined && ID.test(id)) as string[];
  const count = elementAt(domain, 'iothreads')?.text ?? '';
  return /^\d{1,3}$/.test(count) ? Array.from({ length: Number(count) }, (_, id) => String(id + 1)) : [];
}

/** As virDomainNumatuneNodesetIsAvailable and qemuBuildMemoryBackendProps ask for them: each must be there. */
function numaNodesOf(domain: XmlElement): Set<number> {
  const sets = [
    ...['memory', 'memnode'].flatMap((name) =>
      elementsAt(domain, 'numatune', name).map(({ attributes }) =>
        attributes.get('placement') === 'auto' ? '' : (attributes.get('nodeset') ?? ''),
      ),
    ),
    ...elementsAt(domain, 'devices', 'memory').map(
      (device) => elementAt(device, 'source', 'nodemask')?.text ?? '',
    ),
  ];
  return new Set(sets.slice(0, MOST_PARTS).flatMap((set) => [...idsOf(set)]));
}

/** As qemuDomainSecretStorageSourcePrepare has it, for each image of a disk's chain. */
function secretsOfDisk(disk: XmlElement): VmSecret[] {
  const of = `disk ${elementAt(disk, 'target')?.attributes.get('dev') ?? ''}`;
  const found: VmSecret[] = [];
  let image: XmlElement | undefined = disk;
  while (image !== undefined && found.length < MOST_PARTS) {
    const source = elementAt(image, 'source');
    const part = (name: string) =>
      (source === undefined ? undefined : elementAt(source, name)) ?? elementAt(image ?? disk, name);
    const [encryption, auth] = [part('encryption'), part('auth')];
    const format = encryption?.attributes.get('format') ?? '';
    if (source !== undefined && encryption !== undefined && /^luks(?:2|-any)?$/.test(format))
      found.push(...elementsAt(encryption, 'secret').flatMap((one) => secretOf(one, 'volume', of)));
    const protocol = source?.attributes.get('protocol');
    if (auth !== undefined && (protocol === 'rbd' || protocol === 'iscsi'))
      found.push(
        ...elementsAt(auth, 'secret').flatMap((one) =>
          secretOf(one, protocol === 'rbd' ? 'ceph' : 'iscsi', of),
        ),
      );
    image = elementAt(image, 'backingStore');
  }
  return found;
}

function secretOf({ attributes }: XmlElement, type: string, of: string): VmSecret[] {
  const [uuid, usage] = [attributes.get('uuid'), attributes.get('usage')];
  if (uuid !== undefined) {
    const lower = uuid.toLowerCase();
    return UUID.test(lower) ? [{ kind: 'uuid', uuid: lower, of }] : [];
  }
  return usage === undefined ? [] : [{ kind: 'usage', type, usage, of }];
}

/** libvirt's lists of CPUs and nodes (virBitmapParse): `0-3,^2,8`; what is none is empty. */
export function idsOf(text: string): Set<number> {
  const found = new Set<number>();
  let left = 2 * MOST_IDS;
  for (const part of text.slice(0, 100_000).split(',')) {
    const [, not, first, last] = /^\s*(\^?)\s*(\d{1,6})\s*(?:-\s*(\d{1,6})\s*)?$/.exec(part) ?? [];
    if (first === undefined) continue;
    const end = Math.min(Number(last ?? first), MOST_IDS - 1);
    for (let id = Number(first); id <= end && left-- > 0; id++) {
      if (not === '^') found.delete(id);
      else found.add(id);
    }
  }
  return found;
}
