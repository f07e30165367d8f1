/** What a guest's network card ends in on the host: libvirt's, OpenStack's and Proxmox's names. */
const GUEST_TAP = /^(?:vnet\d|tap)/;
/** The bridge that libvirt makes for a network of its own, the same on every host, with its port. */
const LIBVIRT_NETWORK = /^virbr\d+(?:-nic)?$/;

/** Of an address that may be there in a second (RFC 4862 §5.4). */
export const TENTATIVE = 'tentative: whether it is a duplicate is not known yet';

/** Why an interface can't have a role, null where it can. */
export function whyInterfaceLeftOut(link: {
  readonly name: string;
  readonly kind: string;
  readonly loopback: boolean;
  readonly master: { readonly name: string; readonly kind: string } | null;
}): string | null {
  const { name, kind, master } = link;
  if (link.loopback) return 'loopback: this host alone reaches it';
  if (LIBVIRT_NETWORK.test(name)) return "a network of libvirt's own, for guests on this host alone";
  if (kind === 'macvtap' || kind === 'ipvtap') return `a guest's network card (${kind})`;
  if (kind === 'tun' && (master !== null || GUEST_TAP.test(name))) return "a guest's network card (tap)";
  if (master === null) return null;
  const what = master.kind === '' ? master.name : `${master.kind} ${master.name}`;
  return `a port of ${what}: addresses belong on that`;
}

/** Why no client is told of an address, null where clients may be. */
export function whyAddressLeftOut(address: {
  readonly octets: Uint8Array;
  readonly scope: string;
  readonly temporary: boolean;
  readonly tentative: boolean;
  readonly duplicate: boolean;
}): string | null {
  const { scope } = address;
  const unusable = whyUnusable(address.octets);
  if (unusable !== null) return unusable;
  if (scope === 'link') return 'link-local: its scope is the link';
  if (scope === 'host' || scope === 'nowhere') return 'this host alone reaches it';
  if (address.duplicate) return 'a duplicate: another machine on the link has it';
  if (address.tentative) return TENTATIVE;
  if (address.temporary) return 'temporary: of privacy, gone in a day';
  return null;
}

/** Addresses that are no unicast address which others could reach, whatever scope they were given. */
function whyUnusable(octets: Uint8Array): string | null {
  const [first = 0, second = 0] = octets;
  if (octets.length === 4) {
    if (first === 127) return 'this host alone reaches it';
    if (first === 169 && second === 254) return 'link-local (RFC 3927)';
    if (first === 0) return 'unspecified: no address of a machine';
    if (first >= 224) return 'no unicast address';
    return null;
  }
  if (octets.slice(0, 10).every((octet) => octet === 0)) {
    const [ten = 0, eleven = 0] = octets.slice(10);
    if (ten === 0xff && eleven === 0xff) return 'IPv4-mapped: never on a wire';
    if (octets.slice(10, 15).every((octet) => octet === 0))
      return octets[15] === 1 ? 'this host alone reaches it' : 'unspecified: no address of a machine';
    if (ten === 0 && eleven === 0) return 'IPv4-compatible: never on a wire';
  }
  if (first === 0xfe && (second & 0xc0) === 0x80) return 'link-local (RFC 4291 §2.5.6)';
  if (first === 0xff) return 'no unicast address';
  return null;
}
