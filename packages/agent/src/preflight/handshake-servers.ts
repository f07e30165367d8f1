import { isIP } from 'node:net';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { SECOND } from '@virt-trust/base/instant.ts';
import { type Grant, RELAY_PORTS } from '@virt-trust/contract/model/grant.ts';
import type { HandshakeServer } from '@virt-trust/contract/model/preflight.ts';
import type { AgentContext } from '../ports/agent-context.ts';
import type { QemuUser } from '../services/qemu-process.ts';
import { readOwnAddresses } from '../services/reach.ts';
import { HANDSHAKE_MS, QEMU_IMG_MS } from './handshake-parts.ts';
import { type ShortServer, serveBare, serveWithQemu } from './qemu-server.ts';

/** What QEMU on this host serves migrations with. */
interface MigrationPlaces {
  readonly directory: string;
  readonly ports: { readonly min: number; readonly max: number };
}

export interface HandshakeServersParts {
  readonly context: Pick<AgentContext, 'paths' | 'run' | 'firewall' | 'log'>;
  readonly places: () => Promise<MigrationPlaces>;
  readonly qemuUser: () => Promise<QemuUser>;
}

/**
 * SECURITY: for so many seconds at most something listens that a peer asked for, and so many at once. On a busy host what
 * it is asked for takes all of its time, one after the other.
 */
const VALID_SECONDS = Math.ceil((HANDSHAKE_MS + QEMU_IMG_MS) / SECOND) + 5;
const AT_ONCE = 4;
const PREFIX = 'pf-';

interface Served {
  readonly server: Promise<ShortServer>;
  timer?: NodeJS.Timeout;
}

/** The short-lived servers that peers asked for, one for each grant. */
export class HandshakeServers {
  readonly #parts: HandshakeServersParts;
  readonly #served = new Map<string, Served>();

  constructor(parts: HandshakeServersParts) {
    this.#parts = parts;
  }

  /** Takes back what a crash left open. */
  async start(): Promise<void> {
    const { firewall, log } = this.#parts.context;
    try {
      for (const what of await firewall.opened()) if (what.startsWith(PREFIX)) await firewall.close(what);
    } catch (error) {
      log.warn({ reason: describeError(error) }, 'cannot look at what is open');
    }
  }

  /** Throws `preflight.*`. */
  async serve(grant: Grant, address: string): Promise<HandshakeServer> {
    await this.release(grant.id);
    if (this.#served.size >= AT_ONCE)
      throw new TrustError(
        'preflight.busy',
        'unavailable',
        `cannot serve a handshake: ${AT_ONCE} others are under way on this host`,
        { hint: 'ask again in some seconds' },
      );
    const served: Served = { server: this.#listen(grant, address) };
    this.#served.set(grant.id, served);
    try {
      const { port } = await served.server;
      // From here on: it may have been long in coming.
      if (this.#served.get(grant.id) === served)
        served.timer = setTimeout(() => void this.release(grant.id), VALID_SECONDS * SECOND);
      return { address, port, validSeconds: VALID_SECONDS };
    } catch (error) {
      await this.release(grant.id);
      throw error;
    }
  }

  async release(id: string): Promise<void> {
    const served = this.#served.get(id);
    if (served === undefined) return;
    this.#served.delete(id);
    clearTimeout(served.timer);
    const { firewall, log } = this.#parts.context;
    try {
      await (await served.server.catch(() => undefined))?.[Symbol.asyncDispose]();
      await firewall.close(`${PREFIX}${id}`);
    } catch (error) {
      log.warn({ id, reason: describeError(error) }, 'cannot end the server of a preflight');
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#served.keys()].map((id) => this.release(id)));
  }

  async #listen(grant: Grant, address: string): Promise<ShortServer> {
    const { context, places, qemuUser } = this.#parts;
    const isOwn = await readOwnAddresses(context.run);
    // In front of NAT the kernel does not have it: there QEMU listens on all.
    const at = isOwn(address) ? address : isIP(address) === 6 ? '::' : '0.0.0.0';
    if (grant.mode === 'pinned') {
      const server = await serveBare({ address: at, ports: RELAY_PORTS }, context);
      const ports = [{ from: server.port, to: server.port }];
      // As the relay's port is opened for a grant. QEMU's own are open for all, or QEMU is not reached either.
      await context.firewall.open({ what: `${PREFIX}${grant.id}`, ports, from: [...grant.peer.addresses] });
      return server;
    }
    const { directory, ports } = await places();
    return grant.mode === 'plain'
      ? await serveBare({ address: at, ports }, context)
      : await serveWithQemu({ address: at, ports, directory, user: await qemuUser() }, context);
  }
}
