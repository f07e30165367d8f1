import type { HostId } from '@virt-trust/base/host-id.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { PinSet } from '@virt-trust/channel/pins.ts';
import type { HostRepository } from './host.ts';

/** The keys of all agents in memory, because who is let in at a handshake is decided there and then. */
export class KnownAgents {
  readonly #repository: Pick<HostRepository, 'list' | 'get' | 'onChange'>;
  readonly #pins = new Map<HostId, readonly SpkiPin[]>();
  /** By their keys; made when somebody knocks, because hosts change their keys one after the other. */
  #known: { readonly hosts: ReadonlyMap<SpkiPin, HostId>; readonly set: PinSet<'agent'> } | undefined;

  constructor(repository: Pick<HostRepository, 'list' | 'get' | 'onChange'>) {
    this.#repository = repository;
  }

  /** Reads all hosts, and follows them from then on. */
  async start(): Promise<void> {
    this.#repository.onChange((id) => void this.#read(id).catch(() => {}));
    for (const host of await this.#repository.list()) this.#keep(host.id, host.agentPins);
  }

  get pins(): PinSet<'agent'> {
    return this.#now().set;
  }

  /** Whose key it is; undefined for nobody's. */
  hostOf(pin: SpkiPin): HostId | undefined {
    return this.#now().hosts.get(pin);
  }

  #now() {
    if (this.#known === undefined) {
      const hosts = new Map([...this.#pins].flatMap(([id, pins]) => pins.map((pin) => [pin, id] as const)));
      this.#known = { hosts, set: new PinSet('agent', hosts.keys()) };
    }
    return this.#known;
  }

  async #read(id: HostId): Promise<void> {
    const pins = (await this.#repository.get(id))?.agentPins ?? [];
    if (pins.join() !== (this.#pins.get(id) ?? []).join()) this.#keep(id, pins);
  }

  #keep(id: HostId, pins: readonly SpkiPin[]): void {
    if (pins.length === 0) this.#pins.delete(id);
    else this.#pins.set(id, pins);
    this.#known = undefined;
  }
}
