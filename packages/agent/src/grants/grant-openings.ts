import { describeError } from '@virt-trust/base/error.ts';
import type { Grant } from '@virt-trust/contract/model/grant.ts';
import type { AgentContext } from '../ports/agent-context.ts';
import type { HeldGrant } from './judge.ts';

const PREFIX = 'grant-';

/**
 * What grants open besides the door: the firewall, for the addresses of their peers. What could not be opened or closed
 * is tried again.
 */
export class GrantOpenings {
  readonly #context: Pick<AgentContext, 'firewall' | 'log' | 'record'>;
  readonly #release: (id: string) => Promise<void>;
  readonly #unopened = new Set<string>();
  readonly #unclosed = new Set<string>();

  constructor(
    context: Pick<AgentContext, 'firewall' | 'log' | 'record'>,
    release: (id: string) => Promise<void>,
  ) {
    this.#context = context;
    this.#release = release;
  }

  /** For the addresses of its peer and no other; a firewall that can't be asked may let them in all the same. */
  async open({ id, peer }: Grant, port: number): Promise<void> {
    this.#unclosed.delete(id);
    const isNew = !this.#unopened.has(id);
    try {
      const ports = [{ from: port, to: port }];
      await this.#context.firewall.open({ what: `${PREFIX}${id}`, ports, from: [...peer.addresses] });
      this.#unopened.delete(id);
    } catch (error) {
      this.#unopened.add(id);
      if (isNew) await this.#context.record('firewall.failed', `${port}`, describeError(error));
    }
  }

  /** Takes back all that a grant had opened. */
  async close(id: string): Promise<void> {
    this.#unopened.delete(id);
    this.#unclosed.add(id);
    try {
      await this.#release(id);
      await this.#context.firewall.close(`${PREFIX}${id}`);
      this.#unclosed.delete(id);
    } catch (error) {
      this.#context.log.error(
        { id, reason: describeError(error) },
        'cannot take back what a grant had opened',
      );
    }
  }

  /** Takes back what was opened for grants that are gone: the agent may have ended in the midst of it. */
  async forgetAllBut(ids: Iterable<string>): Promise<void> {
    const held = new Set(ids);
    try {
      for (const what of await this.#context.firewall.opened()) {
        const id = what.slice(PREFIX.length);
        if (what.startsWith(PREFIX) && !held.has(id)) await this.close(id);
      }
      // The port may be another one now, or the rules may be lost.
      for (const id of held) this.#unopened.add(id);
    } catch (error) {
      this.#context.log.error({ reason: describeError(error) }, 'cannot look at what is open');
    }
  }

  async retry(port: number, held: readonly HeldGrant[]): Promise<void> {
    for (const id of [...this.#unclosed]) await this.close(id);
    for (const { grant } of held) if (this.#unopened.has(grant.id)) await this.open(grant, port);
  }
}
