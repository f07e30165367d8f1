import { TrustError } from '@virt-trust/base/error.ts';
import { ApiClient } from '@virt-trust/contract/client.ts';
import type { AgentEvent } from '@virt-trust/contract/model/agent-event.ts';
import { testCapabilities } from '@virt-trust/contract/model/fixtures.ts';
import type { Grant } from '@virt-trust/contract/model/grant.ts';
import type { HostVm } from '@virt-trust/contract/model/host-vm.ts';
import type { MigrationOrder, MigrationStatus } from '@virt-trust/contract/model/migration.ts';
import type { Finding } from '@virt-trust/contract/model/preflight.ts';
import { settledState, testInventory } from '../hosts/fixtures.ts';

const VM_UUID = '11111111-2222-4333-8444-555555555555';
const CSR = '-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n';

/** What an agent does in migrations, asked as over a channel; its migrations end as the test says. */
export class SimulatedAgent {
  readonly name: string;
  up = true;
  readonly calls: string[] = [];
  readonly grants = new Map<string, Grant>();
  readonly orders = new Map<string, MigrationOrder>();
  readonly statuses = new Map<string, MigrationStatus>();
  findings: Finding[] = [];
  /** Waited for before it says what it found. */
  onPreflight: () => Promise<void> = async () => {};
  readonly events: AgentEvent[] = [];
  /** Told of a grant that is taken back. */
  onDeleteGrant: (id: string) => void = () => {};
  vms: string[] = [];
  /** What its libvirt has, by address: that of this host under the empty one. */
  readonly listed = new Map<string, readonly HostVm[]>();
  /** What becomes of a migration that starts; by default it is done at once. */
  onStart: (order: MigrationOrder) => Partial<MigrationStatus> = () => ({
    phase: 'done',
    runsOn: 'destination',
  });
  /** What becomes of one that is cancelled. */
  onCancel: (order: MigrationOrder) => Partial<MigrationStatus> = () => ({
    phase: 'cancelled',
    runsOn: 'source',
  });
  readonly #clock: () => number;
  #changed = Promise.withResolvers<void>();

  constructor(name: string, clock: () => number) {
    this.name = name;
    this.#clock = clock;
  }

  /** Something of a migration changes. */
  become(id: string, change: Partial<MigrationStatus>): void {
    const before = this.statuses.get(id);
    if (before === undefined) throw new Error(`no migration ${id}`);
    this.statuses.set(id, { ...before, ...change });
    this.wake();
  }

  /** The channel goes; it is back when `up` is true again and this is called. */
  wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  async untilUp(signal: AbortSignal): Promise<void> {
    while (!this.up) {
      signal.throwIfAborted();
      const { promise, resolve } = Promise.withResolvers<void>();
      signal.addEventListener('abort', () => resolve(), { once: true });
      await Promise.race([this.#changed.promise, promise]);
    }
  }

  readonly client = new ApiClient(async ({ method, path, body, signal }) => {
    this.#requireUp();
    const url = new URL(path, 'http://agent');
    const [, , area = '', id = '', action = ''] = url.pathname.split('/');
    this.calls.push(`${method} ${area}${action === '' ? '' : ` ${action}`}`);
    const sent = body === undefined ? undefined : JSON.parse(body);
    try {
      const [status, value] = await this.#answer(`${method} ${area} ${action}`.trim(), id, sent, url, signal);
      return { status, contentType: 'application/json', body: JSON.stringify(value) };
    } catch (error) {
      if (!(error instanceof TrustError) || error.code.startsWith('channel.')) throw error;
      const { code, message } = error;
      const status = error.category === 'not-found' ? 404 : 409;
      const problem = { type: 'about:blank', title: error.category, status, detail: message, code };
      return { status, contentType: 'application/problem+json', body: JSON.stringify(problem) };
    }
  }, 'the simulated agent');

  get #last(): number {
    return this.events.at(-1)?.sequence ?? 0;
  }

  #requireUp(): void {
    if (!this.up) throw new TrustError('channel.interrupted', 'unavailable', 'cannot go on: cut');
  }

  async #answer(
    what: string,
    id: string,
    body: unknown,
    url: URL,
    signal: AbortSignal | undefined,
  ): Promise<[number, unknown]> {
    switch (what) {
      case 'GET status':
        return [200, { ...AGENT_STATUS, now: this.#clock(), lastEvent: this.#last }];
      case 'GET inventory':
        return [200, testInventory({ hostName: this.name, runningVms: this.vms.map(running) })];
      case 'GET observed-state':
        return [200, settledState('ours', { capabilities: testCapabilities() })];
      case 'GET events': {
        const after = Number(url.searchParams.get('after') ?? 0);
        return [200, { events: this.events.filter(({ sequence }) => sequence > after), last: this.#last }];
      }
      case 'GET vms':
        return [200, { vms: this.listed.get(url.searchParams.get('address') ?? '') ?? [] }];
      case 'POST preflights':
        await this.onPreflight();
        this.#requireUp();
        return [
          200,
          {
            now: this.#clock(),
            capabilities: null,
            hostUuid: '',
            vm: null,
            handshakes: [],
            findings: this.findings,
          },
        ];
      case 'PUT grants': {
        const grant = body as Grant;
        this.grants.set(id, grant);
        return [200, { id, port: 16518, notAfter: grant.notAfter }];
      }
      case 'DELETE grants':
        this.grants.delete(id);
        this.onDeleteGrant(id);
        return [200, {}];
      case 'GET grants':
        return [
          200,
          { grants: [...this.grants.values()].map(({ id, notAfter }) => ({ id, port: 16518, notAfter })) },
        ];
      case 'POST migrations':
        return [201, this.#create(body as MigrationOrder)];
      case 'PUT migrations start':
        return [202, this.#start(id)];
      case 'GET migrations':
        return [200, await this.#status(id, url.searchParams.has('wait'), signal)];
      case 'DELETE migrations':
        this.become(id, this.onCancel(this.#order(id)));
        return [200, this.#find(id)];
      default:
        throw new Error(`the simulated agent does not know ${what}`);
    }
  }

  #create(order: MigrationOrder): unknown {
    const known = this.orders.get(order.id);
    if (known !== undefined && JSON.stringify(known) !== JSON.stringify(order))
      throw new TrustError('migration.conflict', 'conflict', 'another order has this identifier');
    this.orders.set(order.id, order);
    const { id, vm, mode } = order;
    this.statuses.set(id, {
      id,
      vm,
      mode,
      phase: 'requested',
      step: null,
      runsOn: null,
      progress: null,
      proof: null,
      error: null,
    });
    const prepared = { uuid: VM_UUID, xmlSha256: 'a'.repeat(64), persistentXmlSha256: null, copiedDisks: [] };
    return { csr: mode === 'tls' ? CSR : null, vm: prepared };
  }

  #start(id: string): MigrationStatus {
    this.become(id, { phase: 'running', ...this.onStart(this.#order(id)) });
    return this.#find(id);
  }

  #order(id: string): MigrationOrder {
    const order = this.orders.get(id);
    if (order === undefined) throw unknown(id);
    return order;
  }

  async #status(id: string, waits: boolean, signal: AbortSignal | undefined): Promise<MigrationStatus> {
    const before = this.#find(id);
    if (waits && (before.phase === 'running' || before.phase === 'requested')) {
      const { promise, reject } = Promise.withResolvers<never>();
      signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
      await Promise.race([this.#changed.promise, promise]);
      this.#requireUp();
    }
    return this.#find(id);
  }

  #find(id: string): MigrationStatus {
    const status = this.statuses.get(id);
    if (status === undefined) throw unknown(id);
    return status;
  }
}

const PIN = `sha256:${'A'.repeat(43)}`;
const AGENT_STATUS = {
  version: '0.1.0',
  mode: 'manage',
  hostName: 'host',
  pin: PIN,
  managers: [PIN],
  listen: '',
  startedAt: 0,
  lastEvent: 0,
  channels: [],
};

const running = (name: string) => ({
  uuid: VM_UUID,
  name,
  state: 'running',
  pid: 1,
  startTicks: 1,
  vnc: [],
  spice: [],
});

function unknown(id: string): TrustError {
  return new TrustError('migration.unknown', 'not-found', `cannot find migration ${id}`);
}
