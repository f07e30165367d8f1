import { MIGRATE_FLAGS } from '@virt-trust/libvirt/migration-protocol.ts';

/** Flags of libvirt's (`virDomainMigrateFlags`) that no migration has here, whatever else is said of it. */
interface NeverFlags {
  readonly mask: number;
  readonly why: string;
  readonly hint: string;
}

const KNOWN = Object.values(MIGRATE_FLAGS).reduce((all, flag) => all | flag, 0);

/** Each with the reason and the way out. */
export const NEVER_FLAGS: readonly NeverFlags[] = [
  {
    mask: ~KNOWN,
    why: 'there are flags among them that libvirt does not know',
    hint: 'see virDomainMigrateFlags in the documentation of libvirt',
  },
  {
    mask: MIGRATE_FLAGS.peerToPeer | MIGRATE_FLAGS.tunnelled,
    why: 'libvirtd itself would conduct with VIR_MIGRATE_PEER2PEER (2) or VIR_MIGRATE_TUNNELLED (4), past what was decided and granted',
    hint: 'leave these flags out: mode pinned is what tunnelling is for',
  },
  {
    mask: MIGRATE_FLAGS.tls,
    why: 'whether VIR_MIGRATE_TLS (65536) is set follows from the mode',
    hint: 'ask for it by --mode tls',
  },
  {
    mask: MIGRATE_FLAGS.rdmaPinAll | MIGRATE_FLAGS.postCopyResume,
    why: 'VIR_MIGRATE_RDMA_PIN_ALL (16384) and VIR_MIGRATE_POSTCOPY_RESUME (524288) are for what is not done here',
    hint: 'leave these flags out',
  },
];

/** Why a setting cannot have these flags; null where it can. What goes with what is judged with each migration. */
export function whyNoSetting(flags: number): string | null {
  const never = NEVER_FLAGS.find(({ mask }) => (flags & mask) !== 0);
  if (never !== undefined) return `${never.why}; ${never.hint}`;
  return (flags & MIGRATE_FLAGS.offline) === 0
    ? null
    : 'VIR_MIGRATE_OFFLINE (1024) is the setting migration.offline';
}
