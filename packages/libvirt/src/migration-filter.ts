import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { type MigrationPolicy, requireGrantedFinish, requireGrantedPrepare } from './migration-policy.ts';
import {
  authList,
  connectClose,
  connectOpen,
  connectSupportsFeature,
  domainMigrateFinish3Params,
  domainMigratePrepare3Params,
  type Procedure,
  RPC_PROGRAMS,
} from './migration-protocol.ts';
import { encodePacket, type RpcPacket, RpcPacketReader } from './rpc.ts';
import { decodeWhole } from './xdr-codec.ts';

const VERSION = 1;
const [CALL, REPLY, MESSAGE] = [0, 1, 2];
const OK = 0;
/** virkeepaliveprotocol.h: PING and PONG. */
const KEEPALIVE_PROCEDURES: ReadonlySet<number> = new Set([1, 2]);
/** Far above a VM's XML with its cookie; what is read before it is judged is bounded by it. */
const SOURCE_PACKET_LIMIT = 4 << 20;
const REPLY_PACKET_LIMIT = 4 << 20;
/** As many as libvirtd takes of one client by default (`max_client_requests`), and a few. */
const OUTSTANDING_LIMIT = 16;
/** A source that lost the answer asks again. */
const FINISH_LIMIT = 16;

/** What one grant's connections have done so far. */
export interface MigrationCourse {
  prepared: boolean;
  finishes: number;
}

/** A grant's course before its first connection. */
export function newMigrationCourse(): MigrationCourse {
  return { prepared: false, finishes: 0 };
}

type Stage = 'new' | 'authenticated' | 'open' | 'closed';

/** A call that may be made, when, and what is judged of its arguments. */
interface Permitted {
  readonly procedure: Procedure<unknown, unknown>;
  readonly from: readonly Stage[];
  readonly to?: Stage;
  judge?(args: unknown, policy: MigrationPolicy, course: MigrationCourse): void;
}

function permit<Args, Result>(
  procedure: Procedure<Args, Result>,
  from: readonly Stage[],
  rest: {
    readonly to?: Stage;
    judge?(args: Args, policy: MigrationPolicy, course: MigrationCourse): void;
  } = {},
): Permitted {
  return { procedure, from, ...rest } as Permitted;
}

/** All that a source may call; every other procedure, program and kind of packet cuts it off. */
const PERMITTED: ReadonlyMap<number, Permitted> = new Map(
  [
    permit(authList, ['new'], { to: 'authenticated' }),
    permit(connectOpen, ['authenticated'], {
      to: 'open',
      judge: ({ uri, flags }) => {
        if (uri !== 'qemu:///system' || flags !== 0)
          throw refusal(`it opens ${uri ?? 'no URI'} with flags ${flags}`);
      },
    }),
    permit(connectSupportsFeature, ['authenticated', 'open']),
    permit(domainMigratePrepare3Params, ['open'], {
      judge: (args, policy, course) => {
        if (course.prepared) throw refusal('it prepares the migration a second time');
        requireGrantedPrepare(args, policy);
        course.prepared = true;
      },
    }),
    permit(domainMigrateFinish3Params, ['open'], {
      judge: (args, policy, course) => {
        if (!course.prepared) throw refusal('it finishes what it did not prepare');
        if (++course.finishes > FINISH_LIMIT) throw refusal('it finishes without end');
        requireGrantedFinish(args, policy);
      },
    }),
    permit(connectClose, ['authenticated', 'open'], { to: 'closed' }),
  ].map((permitted) => [permitted.procedure.number, permitted]),
);

/**
 * Stands between a source's agent and this host's libvirt in mode `pinned`: of libvirt's RPC only what the granted
 * migration needs passes, for its VM, XML, flags and sockets. Pure; one for each connection. Throws
 * `migration.cut_off`, after which nothing of the connection may be used.
 */
export class MigrationFilter {
  readonly #policy: MigrationPolicy;
  readonly #course: MigrationCourse;
  readonly #fromSource = new RpcPacketReader(SOURCE_PACKET_LIMIT);
  readonly #fromLibvirt = new RpcPacketReader(REPLY_PACKET_LIMIT);
  /** Serial numbers of calls without an answer yet, and their procedures. */
  readonly #outstanding = new Map<number, number>();
  #stage: Stage = 'new';
  #lastSerial = 0;

  constructor(policy: MigrationPolicy, course: MigrationCourse) {
    this.#policy = policy;
    this.#course = course;
  }

  /** What goes on to libvirt of these bytes of the source's. */
  fromSource(bytes: Uint8Array): Uint8Array {
    return cutOffOnError('it sends what is none of libvirt’s RPC', () =>
      Buffer.concat(this.#fromSource.push(bytes).map((packet) => this.#call(packet))),
    );
  }

  /** What goes back to the source of these bytes of libvirt's. */
  fromLibvirt(bytes: Uint8Array): Uint8Array {
    return cutOffOnError('its libvirt answers with what is none of its RPC', () =>
      Buffer.concat(this.#fromLibvirt.push(bytes).flatMap((packet) => this.#answer(packet))),
    );
  }

  #call(packet: RpcPacket): Uint8Array {
    const { program, version, procedure, type, serial, status, payload } = packet;
    if (this.#stage === 'closed') throw refusal('it goes on after it closed the connection to libvirt');
    if (isKeepalive(packet)) return encodePacket(packet);
    const permitted = program === RPC_PROGRAMS.remote ? PERMITTED.get(procedure) : undefined;
    if (permitted === undefined || type !== CALL)
      throw refusal(`it calls procedure ${procedure} of program 0x${program.toString(16)} as type ${type}`);
    const { name } = permitted.procedure;
    if (version !== VERSION || status !== OK)
      throw refusal(`it calls ${name} with version ${version} and status ${status}`);
    if (!permitted.from.includes(this.#stage)) throw refusal(`it calls ${name} out of its turn`);
    if (serial <= this.#lastSerial) throw refusal(`it calls ${name} with serial number ${serial} again`);
    if (this.#outstanding.size >= OUTSTANDING_LIMIT) throw refusal('it calls without waiting for answers');
    const args = decodeWhole(permitted.procedure.args, payload);
    permitted.judge?.(args, this.#policy, this.#course);
    this.#lastSerial = serial;
    this.#outstanding.set(serial, procedure);
    this.#stage = permitted.to ?? this.#stage;
    // SECURITY: encoded anew from what was judged, so that libvirt cannot read it otherwise than it was read here.
    return encodePacket({ ...packet, payload: permitted.procedure.args.encode(args) });
  }

  #answer(packet: RpcPacket): Uint8Array[] {
    if (isKeepalive(packet)) return [encodePacket(packet)];
    const { program, procedure, type, serial } = packet;
    // Events: nobody asked for them, and the source learns nothing of other VMs.
    if (type === MESSAGE) return [];
    if (program !== RPC_PROGRAMS.remote || type !== REPLY || this.#outstanding.get(serial) !== procedure)
      throw refusal(`its libvirt answers call ${serial} of procedure ${procedure}, which was not made`);
    this.#outstanding.delete(serial);
    return [encodePacket(packet)];
  }
}

function isKeepalive({ program, version, procedure, type, serial, status, payload }: RpcPacket): boolean {
  return (
    program === RPC_PROGRAMS.keepalive &&
    version === VERSION &&
    KEEPALIVE_PROCEDURES.has(procedure) &&
    type === MESSAGE &&
    serial === 0 &&
    status === OK &&
    payload.length === 0
  );
}

function cutOffOnError(otherwise: string, work: () => Uint8Array): Uint8Array {
  try {
    return work();
  } catch (error) {
    if (isTrustError(error, 'migration.cut_off')) throw error;
    throw new TrustError(
      'migration.cut_off',
      'denied',
      `cannot let the source's agent go on: ${otherwise}: ${describeError(error)}`,
      { cause: error },
    );
  }
}

function refusal(reason: string): TrustError {
  return new TrustError('migration.cut_off', 'denied', `cannot let the source's agent go on: ${reason}`);
}
