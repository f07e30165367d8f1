import type { MigrationOptions } from '@virt-trust/contract/model/migration-options.ts';
import type { PreflightOrder } from '@virt-trust/contract/model/preflight.ts';
import { MIGRATE_FLAGS } from '@virt-trust/libvirt/migration-protocol.ts';
import { FindingList } from './finding-list.ts';

/** What of a host decides which options it can take. */
export interface OptionFacts {
  readonly libvirtVersion: string | null;
  readonly qemuVersion: string | null;
  /** Whether a QEMU that is not root may use userfaultfd; null where the kernel does not say. */
  readonly userfaultfd: boolean | null;
}

/** Options that one side of a migration does not have, or not together. */
export function optionFindings(
  options: MigrationOptions,
  { role, own, mode }: Pick<PreflightOrder, 'role' | 'own' | 'mode'>,
  facts: OptionFacts,
): FindingList['all'] {
  const list = new FindingList(own);
  const { libvirtVersion: libvirt, qemuVersion: qemu } = facts;
  const usesPostCopy =
    options.postCopy ||
    (options.timeoutSeconds > 0 && options.timeoutAction === 'post-copy') ||
    (options.flags & MIGRATE_FLAGS.postCopy) !== 0;
  if (usesPostCopy && role === 'destination' && facts.userfaultfd === false)
    list.error(
      'option.userfaultfd',
      `QEMU on ${own} may not use userfaultfd, which post-copy is made of: the migration fails at its beginning`,
      'sysctl -w vm.unprivileged_userfaultfd=1, and for good: echo vm.unprivileged_userfaultfd=1 > /etc/sysctl.d/60-qemu-postcopy-migration.conf',
    );
  // migrate_caps_check of QEMU's migration code, until 10.1.
  if (usesPostCopy && options.parallel > 0 && isBefore(qemu, 10, 1))
    list.error(
      'option.parallel_post_copy',
      `QEMU ${qemu} on ${own} has no post-copy together with parallel connections`,
      'leave one of --post-copy and --parallel out',
    );
  if (options.compression === 'zlib' || options.compression === 'zstd') {
    if (isBefore(libvirt, 9, 4))
      list.error(
        'option.compression',
        `libvirt ${libvirt} on ${own} does not know ${options.compression}: it came with 9.4`,
        'use --compress xbzrle, or none',
      );
    if (options.parallel === 0)
      list.error(
        'option.compression_parallel',
        `${options.compression} compresses parallel connections alone, and there are none`,
        `add --parallel 2, or use --compress xbzrle`,
      );
  }
  // migrate_params_check and qio_channel_socket_connect_sync of QEMU: plain TCP alone.
  if ((options.flags & MIGRATE_FLAGS.zeroCopy) !== 0 && mode !== 'plain' && role === 'source')
    list.error(
      'option.zero_copy',
      `QEMU sends memory without copying it over TCP in the clear alone (VIR_MIGRATE_ZEROCOPY, 1048576), and not in mode ${mode}`,
      'leave that flag out',
    );
  // QEMU 9.1 took the capability `compress` away.
  if (options.compression === 'mt' && qemu !== null && !isBefore(qemu, 9, 1))
    list.error(
      'option.compression',
      `QEMU ${qemu} on ${own} does not know mt any more`,
      'use --compress zstd with --parallel 2, or xbzrle',
    );
  if (options.compression === 'xbzrle' && options.parallel > 0)
    list.warning(
      'option.compression_parallel',
      'xbzrle compresses one stream alone: with parallel connections it is without effect, or refused',
      'leave one of --compress and --parallel out',
    );
  return list.all;
}

/** Unknown versions are taken to be able. */
function isBefore(version: string | null, major: number, minor: number): boolean {
  const parts = /^(\d{1,4})\.(\d{1,4})/.exec(version ?? '');
  if (parts === null) return false;
  const [ownMajor, ownMinor] = [Number(parts[1]), Number(parts[2])];
  return ownMajor < major || (ownMajor === major && ownMinor < minor);
}
