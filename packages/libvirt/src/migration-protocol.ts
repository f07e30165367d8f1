import { typedParameter } from './typed-params.ts';
import {
  type XdrCodec,
  type XdrValue,
  xdrInteger,
  xdrList,
  xdrOpaque,
  xdrOptional,
  xdrStruct,
  xdrText,
  xdrUnsigned,
  xdrUnsignedHyper,
  xdrUuid,
} from './xdr-codec.ts';

/** libvirt's programs within its RPC. */
export const RPC_PROGRAMS = { remote: 0x20008086, qemu: 0x20008087, keepalive: 0x6b656570 } as const;

/** The largest packet that libvirt takes, its length field included (virnetprotocol.x). */
export const RPC_PACKET_LIMIT = 33_554_432 + 4;

/** A procedure: its number and its program, its arguments and its result in XDR. */
export interface Procedure<Args, Result> {
  readonly name: string;
  readonly program: number;
  readonly number: number;
  readonly args: XdrCodec<Args>;
  readonly result: XdrCodec<Result>;
}

/** remote_protocol.x, REMOTE_DOMAIN_MIGRATE_PARAM_LIST_MAX, REMOTE_DOMAIN_JOB_STATS_MAX and REMOTE_MIGRATE_COOKIE_MAX. */
const MIGRATE_PARAMETERS = 64;
const JOB_STATS = 64;
const COOKIE_LIMIT = 4_194_304;
/** remote_protocol.x, REMOTE_DOMAIN_LIST_MAX. */
const DOMAIN_LIST = 16_384;

const text = xdrText();
const cookie = xdrOpaque(COOKIE_LIMIT);
const parameters = xdrList(typedParameter, MIGRATE_PARAMETERS);
const nothing: XdrCodec<object> = { encode: () => new Uint8Array(), decode: () => ({}) };

/** A VM as libvirt's RPC names it; `id` is -1 where it does not run. */
const remoteDomain = xdrStruct({ name: text, uuid: xdrUuid, id: xdrInteger });
export type RemoteDomain = XdrValue<typeof remoteDomain>;

const ofDomain = xdrStruct({ domain: remoteDomain });
const ofDomainWithFlags = xdrStruct({ domain: remoteDomain, flags: xdrUnsigned });

function procedure<Args, Result>(
  name: string,
  number: number,
  args: XdrCodec<Args>,
  result: XdrCodec<Result>,
  program: number = RPC_PROGRAMS.remote,
): Procedure<Args, Result> {
  return { name, program, number, args, result };
}

export const authList = procedure('AUTH_LIST', 66, nothing, xdrStruct({ types: xdrList(xdrUnsigned, 20) }));
export const connectOpen = procedure(
  'CONNECT_OPEN',
  1,
  xdrStruct({ uri: xdrOptional(text), flags: xdrUnsigned }),
  nothing,
);
export const connectClose = procedure('CONNECT_CLOSE', 2, nothing, nothing);
export const connectSupportsFeature = procedure(
  'CONNECT_SUPPORTS_FEATURE',
  60,
  xdrStruct({ feature: xdrInteger }),
  xdrStruct({ supported: xdrInteger }),
);
export const domainLookupByName = procedure('DOMAIN_LOOKUP_BY_NAME', 23, xdrStruct({ name: text }), ofDomain);
export const domainLookupByUuid = procedure(
  'DOMAIN_LOOKUP_BY_UUID',
  24,
  xdrStruct({ uuid: xdrUuid }),
  ofDomain,
);
/** Every VM, also those that are off: `need_results` asks for them, and not for their number alone. */
export const connectListAllDomains = procedure(
  'CONNECT_LIST_ALL_DOMAINS',
  273,
  xdrStruct({ needResults: xdrInteger, flags: xdrUnsigned }),
  xdrStruct({ domains: xdrList(remoteDomain, DOMAIN_LIST), count: xdrUnsigned }),
);
export const domainGetState = procedure(
  'DOMAIN_GET_STATE',
  212,
  ofDomainWithFlags,
  xdrStruct({ state: xdrInteger, reason: xdrInteger }),
);
export const domainGetXmlDesc = procedure(
  'DOMAIN_GET_XML_DESC',
  14,
  ofDomainWithFlags,
  xdrStruct({ xml: text }),
);
export const domainGetJobStats = procedure(
  'DOMAIN_GET_JOB_STATS',
  298,
  ofDomainWithFlags,
  xdrStruct({ type: xdrInteger, params: xdrList(typedParameter, JOB_STATS) }),
);
export const domainAbortJob = procedure('DOMAIN_ABORT_JOB', 164, ofDomain, nothing);
/** libvirt 8.5: with `ABORT_JOB_POSTCOPY` also in post-copy, which is broken then on both hosts until it is resumed. */
export const domainAbortJobFlags = procedure('DOMAIN_ABORT_JOB_FLAGS', 442, ofDomainWithFlags, nothing);
/** `VIR_DOMAIN_ABORT_JOB_POSTCOPY` */
export const ABORT_JOB_POSTCOPY = 1;
export const domainSuspend = procedure('DOMAIN_SUSPEND', 34, ofDomain, nothing);
export const domainResume = procedure('DOMAIN_RESUME', 28, ofDomain, nothing);
export const domainDestroy = procedure('DOMAIN_DESTROY', 12, ofDomain, nothing);
export const domainMigrateStartPostCopy = procedure(
  'DOMAIN_MIGRATE_START_POST_COPY',
  364,
  ofDomainWithFlags,
  nothing,
);
export const domainMigrateSetMaxDowntime = procedure(
  'DOMAIN_MIGRATE_SET_MAX_DOWNTIME',
  166,
  xdrStruct({ domain: remoteDomain, downtime: xdrUnsignedHyper, flags: xdrUnsigned }),
  nothing,
);
export const domainMigrateSetMaxSpeed = procedure(
  'DOMAIN_MIGRATE_SET_MAX_SPEED',
  207,
  xdrStruct({ domain: remoteDomain, bandwidth: xdrUnsignedHyper, flags: xdrUnsigned }),
  nothing,
);

/** `virDomainMigrateBegin3Params`, at the source. */
export const domainMigrateBegin3Params = procedure(
  'DOMAIN_MIGRATE_BEGIN3_PARAMS',
  302,
  xdrStruct({ domain: remoteDomain, params: parameters, flags: xdrUnsigned }),
  xdrStruct({ cookieOut: cookie, xml: text }),
);
/** `virDomainMigratePrepare3Params`, at the destination. */
export const domainMigratePrepare3Params = procedure(
  'DOMAIN_MIGRATE_PREPARE3_PARAMS',
  303,
  xdrStruct({ params: parameters, cookieIn: cookie, flags: xdrUnsigned }),
  xdrStruct({ cookieOut: cookie, uriOut: xdrOptional(text) }),
);
/** `virDomainMigratePerform3Params`, at the source: answered when the transfer is over. */
export const domainMigratePerform3Params = procedure(
  'DOMAIN_MIGRATE_PERFORM3_PARAMS',
  305,
  xdrStruct({
    domain: remoteDomain,
    destinationUri: xdrOptional(text),
    params: parameters,
    cookieIn: cookie,
    flags: xdrUnsigned,
  }),
  xdrStruct({ cookieOut: cookie }),
);
/** `virDomainMigrateFinish3Params`, at the destination: starts the VM there, or, cancelled, removes it. */
export const domainMigrateFinish3Params = procedure(
  'DOMAIN_MIGRATE_FINISH3_PARAMS',
  306,
  xdrStruct({ params: parameters, cookieIn: cookie, flags: xdrUnsigned, cancelled: xdrInteger }),
  xdrStruct({ domain: remoteDomain, cookieOut: cookie }),
);
/** `virDomainMigrateConfirm3Params`, at the source: ends the VM there, or, cancelled, has it go on. */
export const domainMigrateConfirm3Params = procedure(
  'DOMAIN_MIGRATE_CONFIRM3_PARAMS',
  307,
  xdrStruct({
    domain: remoteDomain,
    params: parameters,
    cookieIn: cookie,
    flags: xdrUnsigned,
    cancelled: xdrInteger,
  }),
  nothing,
);

/** qemu_protocol.x: a command of QEMU's own monitor. */
export const qemuDomainMonitorCommand = procedure(
  'QEMU_DOMAIN_MONITOR_COMMAND',
  1,
  xdrStruct({ domain: remoteDomain, command: text, flags: xdrUnsigned }),
  xdrStruct({ result: text }),
  RPC_PROGRAMS.qemu,
);

/** `virDomainMigrateFlags` (libvirt-domain.h). */
export const MIGRATE_FLAGS = {
  live: 1 << 0,
  peerToPeer: 1 << 1,
  tunnelled: 1 << 2,
  persistDestination: 1 << 3,
  undefineSource: 1 << 4,
  paused: 1 << 5,
  nonSharedDisk: 1 << 6,
  nonSharedIncremental: 1 << 7,
  changeProtection: 1 << 8,
  unsafe: 1 << 9,
  offline: 1 << 10,
  compressed: 1 << 11,
  abortOnError: 1 << 12,
  autoConverge: 1 << 13,
  rdmaPinAll: 1 << 14,
  postCopy: 1 << 15,
  tls: 1 << 16,
  parallel: 1 << 17,
  nonSharedSynchronousWrites: 1 << 18,
  postCopyResume: 1 << 19,
  zeroCopy: 1 << 20,
} as const;

/** Names of migration parameters (`VIR_MIGRATE_PARAM_*`). */
export const MIGRATE_PARAMETER_NAMES = {
  uri: 'migrate_uri',
  destinationName: 'destination_name',
  destinationXml: 'destination_xml',
  persistentXml: 'persistent_xml',
  bandwidth: 'bandwidth',
  bandwidthPostCopy: 'bandwidth.postcopy',
  graphicsUri: 'graphics_uri',
  listenAddress: 'listen_address',
  migrateDisks: 'migrate_disks',
  disksPort: 'disks_port',
  disksUri: 'disks_uri',
  compression: 'compression',
  parallelConnections: 'parallel.connections',
  tlsDestination: 'tls.destination',
} as const;

/** What a connection is asked whether it can (`virDrvFeature`). */
export const DRIVER_FEATURES = {
  changeProtection: 7,
  fdPassing: 8,
  typedParamString: 9,
  programKeepalive: 10,
  offline: 12,
  migrationParameters: 13,
} as const;
