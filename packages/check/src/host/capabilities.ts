/** What libvirt's capabilities XML says of the host that virt-trust needs. */
export interface Capabilities {
  readonly hostUuid: string | undefined;
  /** User and group numbers of QEMU processes (`baselabel` of the security model `dac`). */
  readonly qemu: { readonly uid: number; readonly gid: number } | undefined;
}

const SIZE_LIMIT = 4 * 1024 * 1024;

/** Reads the output of `virsh capabilities`; what it does not say stays undefined. */
export function parseCapabilities(xml: string): Capabilities {
  const text = xml.slice(0, SIZE_LIMIT);
  const end = text.indexOf('</host>');
  const host = end < 0 ? '' : text.slice(0, end);
  const dac = host
    .split('<secmodel>')
    .slice(1, 16)
    .find((model) => model.slice(0, 200).includes('<model>dac</model>'));
  const label = /<baselabel[^>]{0,100}>\+(\d{1,10}):\+(\d{1,10})<\/baselabel>/.exec(dac ?? '');
  return {
    hostUuid: /<uuid>([0-9a-f-]{36})<\/uuid>/.exec(host)?.[1],
    qemu: label === null ? undefined : { uid: Number(label[1]), gid: Number(label[2]) },
  };
}
