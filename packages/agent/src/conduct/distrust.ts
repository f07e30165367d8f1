import { TrustError } from '@virt-trust/base/error.ts';
import type { MigrationOrder } from '@virt-trust/contract/model/migration.ts';
import { readMigrationCookie } from '@virt-trust/libvirt/migration-cookie.ts';
import { definedVm, undueParts } from '@virt-trust/libvirt/migration-definition.ts';
import { canonicalIpAddress, isIpAddress } from '@virt-trust/pki/ip-address.ts';
import { tcpStreams } from './parameters.ts';

/** A VM as a source describes it. */
interface Described {
  readonly uuid: string;
  readonly xml: string;
  readonly cookie: Uint8Array;
}

const HINT =
  'Nobody vouches for that host, nor for the network to it: look at the VM there (virsh dumpxml), or take the host under management: virt-trust host add.';

/**
 * Refuses what a source over the network, without an agent, would have this host start: another VM than the one that was
 * asked for, or one that is given more of this host than a VM. Throws `migration.undue_definition`.
 *
 * SECURITY: over plain TCP it is the word of whoever is on the way, and libvirtd does for a definition what root may do.
 */
export function requireDue(order: Pick<MigrationOrder, 'vm' | 'source'>, described: Described): void {
  if (order.source.kind === 'local') return;
  requireDueDefinition(order.vm, described.uuid, described.xml);
  requireDueCookie(order, described);
}

/** The same of a cookie alone, in which a definition may stand, too. */
export function requireDueCookie(
  order: Pick<MigrationOrder, 'vm' | 'source'>,
  { uuid, cookie }: Pick<Described, 'uuid' | 'cookie'>,
): void {
  if (order.source.kind === 'local') return;
  const stored = readMigrationCookie(cookie)?.persistentXml ?? null;
  if (stored !== null) requireDueDefinition(order.vm, uuid, stored);
}

function requireDueDefinition(vm: string, uuid: string, xml: string): void {
  const defined = definedVm(xml);
  if (defined === null || defined.name !== vm || defined.uuid !== uuid.toLowerCase())
    throw undue(vm, 'its source gives it the definition of another VM');
  const parts = undueParts(xml);
  if (parts.length > 0)
    throw undue(vm, `its definition has what no VM has business with: ${parts.join(', ')}`);
}

/**
 * Where the source's QEMU connects, of what the destination's libvirt answered: its port, and nothing else. Throws
 * `migration.stream_elsewhere` where that names another place or way than was decided.
 */
export function streamUri(stream: NonNullable<MigrationOrder['stream']>, answered: string | null): string {
  const own = tcpStreams(stream).source;
  if (answered === null) return own;
  const [, host = '', port = ''] =
    /^tcp:(?:\/\/)?(?:\[?)([^[\]/]{1,253}?)\]?:(\d{1,5})\/?$/.exec(answered) ?? [];
  if (keyOf(host) === keyOf(stream.address) && Number(port) >= 1 && Number(port) <= 65_535)
    return `${own}:${Number(port)}`;
  throw new TrustError(
    'migration.stream_elsewhere',
    'denied',
    `cannot migrate: the destination's libvirt would have the VM sent to ${JSON.stringify(answered.slice(0, 200))} and not to ${stream.address}`,
    {
      hint: 'See migration_address and migration_host in its /etc/libvirt/qemu.conf, and whether that host is still to be trusted.',
    },
  );
}

function keyOf(host: string): string {
  return isIpAddress(host) ? canonicalIpAddress(host) : host.toLowerCase();
}

function undue(vm: string, reason: string): TrustError {
  return new TrustError('migration.undue_definition', 'denied', `cannot take VM ${vm}: ${reason}`, {
    hint: HINT,
  });
}
