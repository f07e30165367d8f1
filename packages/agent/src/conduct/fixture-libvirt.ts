import { type Duplex, duplexPair } from 'node:stream';
import {
  authList,
  connectClose,
  connectListAllDomains,
  connectOpen,
  connectSupportsFeature,
  domainAbortJob,
  domainDestroy,
  domainGetJobStats,
  domainGetState,
  domainGetXmlDesc,
  domainLookupByName,
  domainLookupByUuid,
  domainMigrateBegin3Params,
  domainMigrateConfirm3Params,
  domainMigrateFinish3Params,
  domainMigratePerform3Params,
  domainMigratePrepare3Params,
  domainResume,
  domainSuspend,
  type Procedure,
} from '@virt-trust/libvirt/migration-protocol.ts';
import { encodePacket, type RpcPacket, RpcPacketReader } from '@virt-trust/libvirt/rpc.ts';
import { encodeXdrString, encodeXdrUnsigned } from '@virt-trust/libvirt/xdr.ts';
import { decodeWhole } from '@virt-trust/libvirt/xdr-codec.ts';

export const VM_UUID = '00cc6257-5d60-4ebb-a478-444f0538f75e';
export const VM = { name: 'vm', uuid: VM_UUID, id: 1 };
const VM_XML =
  "<domain type='qemu'><name>vm</name><devices><disk type='file'><source file='/a'/><target dev='vda'/></disk></devices></domain>";

/** What a fake libvirt answers one procedure with; it may wait, throw `FakeError`, or cut the connection. */
type Answer = (args: never, connection: { cut(): void }) => unknown;

/** An error of libvirt's. */
export class FakeError extends Error {
  readonly code: number;
  readonly domain: number;

  constructor(message: string, code = 9, domain = 10) {
    super(message);
    this.code = code;
    this.domain = domain;
  }
}

const NO_DOMAIN = 42;
const PROCEDURES: readonly Procedure<never, unknown>[] = [
  authList,
  connectOpen,
  connectClose,
  connectListAllDomains,
  connectSupportsFeature,
  domainLookupByName,
  domainLookupByUuid,
  domainGetState,
  domainGetXmlDesc,
  domainGetJobStats,
  domainAbortJob,
  domainSuspend,
  domainResume,
  domainDestroy,
  domainMigrateBegin3Params,
  domainMigratePrepare3Params,
  domainMigratePerform3Params,
  domainMigrateFinish3Params,
  domainMigrateConfirm3Params,
] as unknown as readonly Procedure<never, unknown>[];

/** A libvirt daemon with one VM, on connections of memory. */
export class FakeLibvirt {
  /** The VM's state and reason by libvirt's numbers; null where it is not there. */
  vm: [state: number, reason: number] | null;
  /** Names of the calls, but for questions. */
  readonly calls: string[] = [];
  readonly answers: Record<string, Answer> = {};
  hasJob = false;
  isDown = false;
  readonly #open = new Set<Duplex>();

  constructor(vm: [number, number] | null) {
    this.vm = vm;
  }

  /** A connection's client end. */
  connect(): Duplex {
    if (this.isDown) throw new Error('it is down');
    const [client, server] = duplexPair();
    const reader = new RpcPacketReader();
    this.#open.add(server);
    const cut = () => server.destroy();
    server.once('close', () => client.destroy());
    client.once('close', () => server.destroy());
    server.on('data', (chunk: Uint8Array) => {
      for (const packet of reader.push(chunk)) void this.#serve(packet, server, cut);
    });
    return client;
  }

  /** Ends every connection. */
  cutAll(): void {
    for (const one of this.#open) one.destroy();
  }

  async #serve(packet: RpcPacket, server: Duplex, cut: () => void): Promise<void> {
    const procedure = PROCEDURES.find(
      ({ number, program }) => number === packet.procedure && program === packet.program,
    );
    if (procedure === undefined) return;
    const args = decodeWhole(procedure.args as never, packet.payload) as never;
    const reply = (status: number, payload: Uint8Array) => {
      if (!server.destroyed) server.write(encodePacket({ ...packet, type: 1, status, payload }));
    };
    try {
      const result = await this.#answer(procedure.name, args, cut);
      if (server.destroyed) return;
      reply(0, (procedure.result.encode as (value: unknown) => Uint8Array)(result));
    } catch (error) {
      const { message, code, domain } = error as FakeError;
      reply(
        1,
        Buffer.concat([
          encodeXdrUnsigned(code),
          encodeXdrUnsigned(domain),
          encodeXdrUnsigned(1),
          encodeXdrString(message),
        ]),
      );
    }
  }

  async #answer(name: string, args: never, cut: () => void): Promise<unknown> {
    const own = this.answers[name];
    if (!/LOOKUP|GET_|AUTH|CONNECT/.test(name)) this.calls.push(describe(name, args));
    if (own !== undefined) return await own(args, { cut });
    switch (name) {
      case 'AUTH_LIST':
        return { types: [0] };
      case 'CONNECT_SUPPORTS_FEATURE':
        return { supported: 1 };
      case 'DOMAIN_LOOKUP_BY_NAME':
      case 'DOMAIN_LOOKUP_BY_UUID':
        if (this.vm === null) throw new FakeError('Domain not found', NO_DOMAIN);
        return { domain: VM };
      case 'DOMAIN_GET_STATE':
        if (this.vm === null) throw new FakeError('Domain not found', NO_DOMAIN);
        return { state: this.vm[0], reason: this.vm[1] };
      case 'DOMAIN_GET_XML_DESC':
        return { xml: VM_XML };
      case 'DOMAIN_GET_JOB_STATS':
        return { type: this.hasJob ? 2 : 0, params: [] };
      case 'DOMAIN_MIGRATE_BEGIN3_PARAMS':
        this.hasJob = true;
        return { cookieOut: Buffer.from('begin'), xml: VM_XML };
      case 'DOMAIN_MIGRATE_PREPARE3_PARAMS':
        this.vm = [3, 2];
        return { cookieOut: Buffer.from('prepare'), uriOut: 'tcp:192.0.2.2:49152' };
      case 'DOMAIN_MIGRATE_PERFORM3_PARAMS':
        this.vm = [3, 2];
        this.hasJob = true;
        return { cookieOut: Buffer.from('perform') };
      case 'DOMAIN_MIGRATE_FINISH3_PARAMS': {
        if ((args as { cancelled: number }).cancelled === 1) {
          this.vm = null;
          throw new FakeError('migration was cancelled', 93);
        }
        this.vm = [1, 2];
        return { domain: VM, cookieOut: Buffer.from('finish') };
      }
      case 'DOMAIN_MIGRATE_CONFIRM3_PARAMS': {
        if (!this.hasJob) throw new FakeError('domain is not processing outgoing migration', 55);
        this.hasJob = false;
        this.vm = (args as { cancelled: number }).cancelled === 1 ? [1, 6] : null;
        return {};
      }
      case 'DOMAIN_RESUME':
        this.vm = [1, 5];
        return {};
      case 'DOMAIN_SUSPEND':
        this.vm = [3, 1];
        return {};
      case 'DOMAIN_DESTROY':
        this.vm = null;
        return {};
      default:
        return {};
    }
  }
}

function describe(name: string, args: { readonly cancelled?: number }): string {
  const short = name.replace(/^DOMAIN_(?:MIGRATE_)?/, '').replace(/3_PARAMS$/, '');
  return args.cancelled === 1 ? `${short} cancelled` : short;
}
