import { TrustError } from '@virt-trust/base/error.ts';
import { readMigrationCookie } from './migration-cookie.ts';
import {
  type domainMigrateFinish3Params,
  type domainMigratePrepare3Params,
  MIGRATE_FLAGS,
  MIGRATE_PARAMETER_NAMES,
} from './migration-protocol.ts';
import type { TypedParameter, TypedValue } from './typed-params.ts';
import type { XdrValue } from './xdr-codec.ts';

/** What the source of one migration may have of this host's libvirt. */
export interface MigrationPolicy {
  readonly vm: {
    readonly name: string;
    readonly uuid: string;
    readonly xmlSha256: string;
    readonly persistentXmlSha256: string | null;
    /** Targets of the disks that may be copied. */
    readonly copiedDisks: readonly string[];
  };
  /** `virDomainMigrateFlags` that it may have. */
  readonly flags: number;
  /** Parallel connections that it may have at most. */
  readonly streams: number;
  /** Where QEMU may listen, and only there. */
  readonly streamUri: string;
  readonly disksUri: string | null;
  /** Whether the migration may still begin, by the time of its grant. */
  mayBegin(): boolean;
  /** The digest of a VM's XML, as the grant's digests were made. */
  digest(xml: string): string;
}

type Prepare = XdrValue<(typeof domainMigratePrepare3Params)['args']>;
type Finish = XdrValue<(typeof domainMigrateFinish3Params)['args']>;

const N = MIGRATE_PARAMETER_NAMES;
const COMPRESSIONS: ReadonlySet<unknown> = new Set(['xbzrle', 'mt', 'zlib', 'zstd']);
/** Parameters that may be there more than once. */
const LISTS: ReadonlySet<string> = new Set([N.migrateDisks, N.compression]);

interface Rule {
  readonly kind: TypedValue['kind'];
  holds(value: unknown, policy: MigrationPolicy): boolean;
}

const anything = () => true;

/** SECURITY: parameters that are not here, such as `listen_address`, `disks_port` or `graphics_uri`, are refused. */
const RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  [N.destinationName, { kind: 'string', holds: (value, { vm }) => value === vm.name }],
  [
    N.destinationXml,
    { kind: 'string', holds: (value, { vm, digest }) => digest(String(value)) === vm.xmlSha256 },
  ],
  [
    N.persistentXml,
    { kind: 'string', holds: (value, policy) => isGrantedPersistentXml(String(value), policy) },
  ],
  [N.uri, { kind: 'string', holds: (value, { streamUri }) => value === streamUri }],
  [N.disksUri, { kind: 'string', holds: (value, { disksUri }) => value === disksUri }],
  [N.migrateDisks, { kind: 'string', holds: (value, { vm }) => vm.copiedDisks.includes(String(value)) }],
  [N.bandwidth, { kind: 'ullong', holds: anything }],
  [N.bandwidthPostCopy, { kind: 'ullong', holds: anything }],
  [N.compression, { kind: 'string', holds: (value) => COMPRESSIONS.has(value) }],
  ['compression.mt.level', { kind: 'int', holds: anything }],
  ['compression.mt.threads', { kind: 'int', holds: anything }],
  ['compression.mt.dthreads', { kind: 'int', holds: anything }],
  ['compression.xbzrle.cache', { kind: 'ullong', holds: anything }],
  ['compression.zlib.level', { kind: 'int', holds: anything }],
  ['compression.zstd.level', { kind: 'int', holds: anything }],
  ['auto_converge.initial', { kind: 'int', holds: anything }],
  ['auto_converge.increment', { kind: 'int', holds: anything }],
  [
    N.parallelConnections,
    { kind: 'int', holds: (value, { streams }) => Number(value) >= 1 && Number(value) <= streams },
  ],
]);

/** Throws `migration.cut_off` where the arguments of `virDomainMigratePrepare3Params` are not those of the grant. */
export function requireGrantedPrepare({ params, cookieIn, flags }: Prepare, policy: MigrationPolicy): void {
  if (!policy.mayBegin()) throw refusal('it prepares after the time of the grant');
  requireFlags(flags, policy);
  const has = requireParameters(params, policy);
  if (!has.has(N.destinationXml)) throw refusal("it prepares without the VM's XML");
  // SECURITY: without a URI libvirt would listen on TCP, on every address.
  if ((flags & MIGRATE_FLAGS.offline) === 0 && !has.has(N.uri))
    throw refusal('it prepares without the granted socket');
  const copies =
    (flags & (MIGRATE_FLAGS.nonSharedDisk | MIGRATE_FLAGS.nonSharedIncremental)) !== 0 ||
    has.has(N.migrateDisks);
  if (copies && !has.has(N.disksUri)) throw refusal('it copies disks without the granted socket');
  requireCookie(cookieIn, policy);
}

/** Throws `migration.cut_off` where the arguments of `virDomainMigrateFinish3Params` are not those of the grant. */
export function requireGrantedFinish(
  { params, cookieIn, flags, cancelled }: Finish,
  policy: MigrationPolicy,
): void {
  requireFlags(flags, policy);
  if (!requireParameters(params, policy).has(N.destinationName))
    throw refusal('it finishes without naming the VM');
  if (cancelled !== 0 && cancelled !== 1) throw refusal(`it finishes with ${cancelled}`);
  requireCookie(cookieIn, policy);
}

function requireFlags(flags: number, policy: MigrationPolicy): void {
  // Bits above the 31 that a grant can hold are granted to nobody.
  const others = (flags & ~policy.flags) >>> 0;
  if (others !== 0) throw refusal(`it asks for flags 0x${others.toString(16)}, which were not granted`);
}

function requireParameters(params: readonly TypedParameter[], policy: MigrationPolicy): ReadonlySet<string> {
  const seen = new Set<string>();
  for (const { name, kind, value } of params) {
    const rule = RULES.get(name);
    if (rule === undefined || rule.kind !== kind) throw refusal(`it sets ${printable(name)} as ${kind}`);
    if (seen.has(name) && !LISTS.has(name)) throw refusal(`it sets ${name} twice`);
    if (!rule.holds(value, policy)) throw refusal(`its ${name} is not that of the grant`);
    seen.add(name);
  }
  return seen;
}

function requireCookie(bytes: Uint8Array, policy: MigrationPolicy): void {
  const cookie = readMigrationCookie(bytes);
  if (cookie === null) return;
  const { name, uuid } = policy.vm;
  if (cookie.name !== name || cookie.uuid.toLowerCase() !== uuid.toLowerCase())
    throw refusal('its cookie is that of another VM');
  if (cookie.persistentXml !== null && !isGrantedPersistentXml(cookie.persistentXml, policy))
    throw refusal('its persistent definition is not that of the grant');
}

function isGrantedPersistentXml(xml: string, { vm, digest }: MigrationPolicy): boolean {
  return vm.persistentXmlSha256 !== null && digest(xml) === vm.persistentXmlSha256;
}

/** A name of the source's, fit for a message. */
function printable(name: string): string {
  return /^[\w.-]{1,79}$/.test(name) ? name : 'a parameter of no known name';
}

function refusal(reason: string): TrustError {
  return new TrustError('migration.cut_off', 'denied', `cannot let the source's agent go on: ${reason}`);
}
