import { DAY, SECOND } from '@virt-trust/base/instant.ts';
import {
  Compression,
  MIGRATION_MODES,
  MigrationOptions,
  TimeoutAction,
} from '@virt-trust/contract/model/migration-options.ts';
import {
  booleanSetting,
  durationSetting,
  EVERYWHERE,
  integerSetting,
  listSetting,
  textSetting,
} from './definition.ts';
import { whyNoSetting } from './migration-flags.ts';

const MODES: readonly string[] = MIGRATION_MODES;
const COMPRESSIONS: readonly string[] = Compression.anyOf.map((one) => one.const);
const TIMEOUT_ACTIONS: readonly string[] = TimeoutAction.anyOf.map((one) => one.const);
type CopyStorage = MigrationOptions['copyStorage'];
const COPY_STORAGE: readonly string[] = MigrationOptions.properties.copyStorage.anyOf.map((one) => one.const);

/** The settings of migrations; where the two hosts' differ, the source's holds unless said otherwise. */
export const MIGRATION_SETTINGS = {
  'kvm.libvirtd.tls.enabled': booleanSetting({
    default: true,
    description:
      'Whether hosts have TLS for libvirt and QEMU. Switched off it is taken off them and their former configuration put back; switched on they are provisioned.',
    scopes: EVERYWHERE,
  }),
  'migration.mode': listSetting({
    default: ['tls', 'pinned', 'plain'],
    minItems: 1,
    description:
      'How VMs migrate, in order of preference; the first that is feasible wins. tls: by libvirt and QEMU themselves. pinned: through one channel between the two agents, without certificates of libvirt. plain: in the clear, where a host can nothing else. A mode that either host leaves out is not used. tls alone sets migrate_tls_force on hosts whose gates are passed, and another list takes it back, which restarts libvirtd after migrations that run.',
    scopes: EVERYWHERE,
    is: (value) => MODES.includes(value),
    form: `a mode (${MODES.join(', ')})`,
  }),
  'migration.concurrency': integerSetting({
    default: 2,
    minimum: 1,
    maximum: 64,
    description: 'Migrations at once with which a host is emptied (virt-trust migrate --all).',
    scopes: EVERYWHERE,
  }),
  'migration.doubt_limit': durationSetting({
    default: '1m',
    minimum: SECOND,
    maximum: DAY,
    description:
      'How long the two hosts are asked where a VM runs, where they lost each other at its hand-over, before the migration ends with the VM paused and an operator needed.',
    scopes: EVERYWHERE,
  }),
  'migration.client_certificate_minutes': integerSetting({
    default: 10,
    minimum: 1,
    maximum: 1440,
    description: 'Minutes that the client certificate of one migration is valid.',
    scopes: EVERYWHERE,
  }),
  'migration.grant_minutes': integerSetting({
    default: 10,
    minimum: 1,
    maximum: 1440,
    description:
      'Minutes within which the connections of a migration must begin between two agents; what has begun goes on.',
    scopes: EVERYWHERE,
  }),
  'migration.reload_wait': durationSetting({
    default: '1h',
    minimum: SECOND,
    maximum: 7 * DAY,
    description:
      'How long a reload of libvirtd or a restart that a running migration would feel waits for its end at most.',
    scopes: EVERYWHERE,
  }),
  'migration.live': booleanSetting({
    default: true,
    description: 'Whether VMs run on while they migrate.',
    scopes: EVERYWHERE,
  }),
  'migration.offline': booleanSetting({
    default: false,
    description:
      'Whether of VMs that are off the definition migrates without --offline being said; VMs that run migrate as ever.',
    scopes: EVERYWHERE,
  }),
  'migration.persistent': booleanSetting({
    default: false,
    description: 'Whether a VM that migrated is defined on the destination.',
    scopes: EVERYWHERE,
  }),
  'migration.undefine_source': booleanSetting({
    default: false,
    description: 'Whether a VM that migrated is defined on the source no more.',
    scopes: EVERYWHERE,
  }),
  'migration.copy_storage': textSetting({
    default: 'none' as CopyStorage,
    description: `Which disks go along: none, where they are on shared storage; all of each; or inc, what differs from a base that both hosts have.`,
    scopes: EVERYWHERE,
    is: (value): value is CopyStorage => COPY_STORAGE.includes(value),
    form: `one of ${COPY_STORAGE.join(', ')}`,
  }),
  'migration.post_copy': booleanSetting({
    default: false,
    description:
      'Whether a VM is switched over after the first pass, its memory fetched as it is used; it is lost where the hosts then lose each other.',
    scopes: EVERYWHERE,
  }),
  'migration.parallel': integerSetting({
    default: 0,
    minimum: 0,
    maximum: 64,
    description: 'Connections of one migration; 0 for one stream.',
    scopes: EVERYWHERE,
  }),
  'migration.compression': textSetting({
    default: 'none' as Compression,
    description: `How memory is compressed: ${COMPRESSIONS.join(', ')}; mt takes one stream, until QEMU 9.0; zlib and zstd need migration.parallel, and libvirt 9.4.`,
    scopes: EVERYWHERE,
    is: (value): value is Compression => COMPRESSIONS.includes(value),
    form: `one of ${COMPRESSIONS.join(', ')}`,
  }),
  'migration.auto_converge': booleanSetting({
    default: false,
    description: 'Whether a VM that writes faster than the network is slowed down until it fits.',
    scopes: EVERYWHERE,
  }),
  'migration.bandwidth_mib': integerSetting({
    default: 0,
    minimum: 0,
    maximum: 1_000_000,
    description: 'MiB/s of one migration at most; 0 for as fast as the network goes.',
    scopes: EVERYWHERE,
  }),
  'migration.downtime_ms': integerSetting({
    default: 0,
    minimum: 0,
    maximum: 2_000_000,
    description: "Milliseconds that a VM may stand still at the end; 0 for QEMU's own, 300.",
    scopes: EVERYWHERE,
  }),
  'migration.timeout_seconds': integerSetting({
    default: 0,
    minimum: 0,
    maximum: 604_800,
    description: 'Seconds after which migration.timeout_action is taken; 0 for never.',
    scopes: EVERYWHERE,
  }),
  'migration.timeout_action': textSetting({
    default: 'abort' as TimeoutAction,
    description: `What is done with a migration past its time: ${TIMEOUT_ACTIONS.join(', ')}.`,
    scopes: EVERYWHERE,
    is: (value): value is TimeoutAction => TIMEOUT_ACTIONS.includes(value),
    form: `one of ${TIMEOUT_ACTIONS.join(', ')}`,
  }),
  'migration.flags': integerSetting({
    default: 0,
    minimum: 0,
    maximum: 0x7fff_ffff,
    description:
      "Added to libvirt's migration flags as they are (virDomainMigrateFlags), but for those that no migration has here.",
    scopes: EVERYWHERE,
    whyNot: whyNoSetting,
  }),
} as const;
