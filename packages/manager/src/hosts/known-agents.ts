import type { HostId } from '@virt-trust/base/host-id.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { PinSet } from '@virt-trust/channel/pins.ts';
import type { HostRepository } from './host.ts';

/** The keys of all agents in memory, because who is let in at a handshake is decided there and then. */
export class KnownAgents {
  readonly #repository: Pick<HostRepository, 'list' | 'get' | 'onChange'>;
  readonly #pins = new Map<HostId, readonly SpkiPin[]>();
  #set = new PinSet('agent', []);

  constructor(repository: Pick<HostRepository, 'list' | 'get' | 'onChange'>) {
    this.#repository = repository;
  }

  /** Reads all hosts, and follows them from then on. */
  async start(): Promise<void> {
    this.#repository.onChange((id) => void this.#read(id).catch(() => {}));
    for (const host of await this.#repository.list()) this.#pins.set(host.id, host.agentPins);
    this.#rebuild();
  }

  get pins(): PinSet<'agent'> {
    return this.#set;
  }

  /** Whose key it is; undefined for nobody's. */
  hostOf(pin: SpkiPin): HostId | undefined {
    for (const [id, pins] of this.#pins) if (pins.includes(pin)) return id;
    return undefined;
  }

  async #read(id: HostId): Promise<void> {
    const pins = (await this.#repository.get(id))?.agentPins ?? [];
    if (pins.join() === (this.#pins.get(id) ?? []).join()) return;
    if (pins.length === 0) this.#pins.delete(id);
    else this.#pins.set(id, pins);
    this.#rebuild();
  }

  #rebuild(): void {
    this.#set = new PinSet('agent', [...this.#pins.values()].flat());
  }
}
