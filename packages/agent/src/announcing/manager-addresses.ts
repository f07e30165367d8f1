import { peerAddress } from '@virt-trust/channel/peer-address.ts';
import { Address } from '@virt-trust/contract/model/primitives.ts';
import Type from 'typebox';
import { addressGuard } from '../doors/address-guard.ts';
import { Document } from '../state/document.ts';
import type { AgentPaths } from '../state/paths.ts';

const MOST_PROVEN = 16;
/** As many as a firewall's opening may have. */
const MOST_ADDRESSES = 64;

/** Addresses at which a manager of this host proved its key. */
const ProvenAddresses = Type.Object(
  { addresses: Type.Array(Address, { maxItems: MOST_PROVEN }) },
  { additionalProperties: false },
);

interface Sources {
  /** Of the install order. */
  readonly installed: readonly string[];
  proven: readonly string[];
  /** Of the desired state. */
  told: readonly string[];
}

/**
 * From where managers may come: as installed, as a manager said since, and where one proved its key to an announcement.
 * A filter before the handshake; who is let in is decided by pins.
 */
export class ManagerAddresses {
  readonly #document: Document<typeof ProvenAddresses>;
  readonly #sources: Sources;
  #admits: (remoteAddress: string) => boolean;

  private constructor(document: Document<typeof ProvenAddresses>, sources: Sources) {
    this.#document = document;
    this.#sources = sources;
    this.#admits = addressGuard(this.all);
  }

  static async open(paths: AgentPaths, installed: readonly string[]): Promise<ManagerAddresses> {
    const document = new Document(
      paths.provenAddresses,
      ProvenAddresses,
      `Remove ${paths.provenAddresses}: managers come from where they were installed to, or make it anew.`,
    );
    const proven = (await document.read())?.addresses ?? [];
    return new ManagerAddresses(document, { installed, proven, told: [] });
  }

  get all(): string[] {
    const { installed, proven, told } = this.#sources;
    const addresses = [...installed, ...proven, ...told].map((address) => peerAddress(address));
    return [...new Set(addresses)].filter((address) => address !== '').slice(0, MOST_ADDRESSES);
  }

  admits(remoteAddress: string): boolean {
    return this.#admits(remoteAddress);
  }

  /** A manager said, in a desired state, where it may be found; true if something is new. */
  tell(addresses: readonly string[]): boolean {
    return this.#change(() => {
      this.#sources.told = addresses;
    });
  }

  /** A manager proved its key there, and said from where it comes; kept for good, the newest first. True if something is new. */
  async prove(addresses: readonly string[]): Promise<boolean> {
    const known = this.all;
    const fresh = addresses
      .map((address) => peerAddress(address))
      .filter((one) => !known.includes(one) && one !== '');
    if (fresh.length === 0) return false;
    const proven = [...new Set([...fresh, ...this.#sources.proven])].slice(0, MOST_PROVEN);
    await this.#document.write({ addresses: proven });
    return this.#change(() => {
      this.#sources.proven = proven;
    });
  }

  #change(change: () => void): boolean {
    const before = this.all.join();
    change();
    this.#admits = addressGuard(this.all);
    return this.all.join() !== before;
  }
}
