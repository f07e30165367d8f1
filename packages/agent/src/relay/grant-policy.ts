import type { Clock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Grant } from '@virt-trust/contract/model/grant.ts';
import type { MigrationPolicy } from '@virt-trust/libvirt/migration-policy.ts';
import { migrationXmlDigest } from '@virt-trust/libvirt/migration-xml.ts';
import { type MigrationSockets, unixUri } from './sockets.ts';

/** What libvirt may be asked for under a grant; throws `grant.not_pinned` where it is for no VM. */
export function policyOf(grant: Grant, sockets: MigrationSockets, clock: Clock): MigrationPolicy {
  const { vm } = grant;
  if (vm === null) throw new TrustError('grant.not_pinned', 'internal', 'cannot filter without a VM');
  return {
    vm,
    flags: grant.flags,
    streams: grant.streams,
    streamUri: unixUri(sockets.stream),
    disksUri: vm.copiedDisks.length > 0 ? unixUri(sockets.disks) : null,
    mayBegin: () => clock.now() <= grant.notAfter,
    digest: migrationXmlDigest,
  };
}
