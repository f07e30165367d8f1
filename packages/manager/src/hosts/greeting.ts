import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import { parseSpkiPin, type SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { announceIdentity, putManagers } from '@virt-trust/contract/agent/identity-operations.ts';
import type { HostChannel } from './channels.ts';
import type { Host } from './host.ts';
import { refuseKeysOfOthers } from './keys-of-others.ts';
import type { ManagerIdentity } from './manager-identity.ts';
import type { HostsContext } from './ports.ts';
import { requireHost } from './require-host.ts';

/** What else is done with a host whose channel came up. */
export type AtChannelUp = (host: Host, channel: HostChannel, signal: AbortSignal) => Promise<void>;

/**
 * Puts both sides' pins right whenever a channel comes up: the host's standby is pinned, the host is told the manager's
 * keys with the standby among them. After a restore the manager so finds out which of its keys the fleet knows.
 */
export class Greeting {
  readonly #identity: ManagerIdentity;
  readonly #context: HostsContext;
  readonly #then: readonly AtChannelUp[];
  /** The number of the manager's pins that each host was told last. */
  readonly #told = new Map<HostId, number>();
  /** The keys that each host was refused last. */
  readonly #refused = new Map<HostId, string>();

  constructor(identity: ManagerIdentity, context: HostsContext, then: readonly AtChannelUp[]) {
    this.#identity = identity;
    this.#context = context;
    this.#then = then;
  }

  /** `ownPin`: the manager's key that the channel came up by. Nothing of it is thrown: a next greeting does what is left. */
  async greet(hostName: string, ownPin: SpkiPin, signal: AbortSignal): Promise<void> {
    try {
      await this.#greet(hostName, ownPin, signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#context.log.warn({ host: hostName, reason: describeError(error) }, 'not all was put right');
    }
  }

  async #greet(hostName: string, ownPin: SpkiPin, signal: AbortSignal): Promise<void> {
    const host = await requireHost(hostName, this.#context);
    await this.#findOurselves(host, ownPin);
    const channel = await this.#context.channels.of(host);
    await channel.waitUntilUp(signal);
    await this.#learnPins(host, channel, signal);
    await this.#tellPins(host, channel, signal);
    await this.#endRecovery();
    for (const more of this.#then) await more(await requireHost(hostName, this.#context), channel, signal);
  }

  /** SECURITY: once after a restore, and only to a key of our own that was announced: a host can not roll us on and on. */
  async #findOurselves(host: Host, ownPin: SpkiPin): Promise<void> {
    const [current, next] = this.#identity.all;
    if (this.#identity.recovery !== 'looking' || ownPin === current?.pin || ownPin !== next?.pin) return;
    await this.#identity.useNext(ownPin);
    this.#context.channels.useIdentities(this.#identity.all);
    await this.#context.audit.append({
      actor: 'manager',
      action: 'manager.key_found',
      subject: ownPin,
      outcome: 'done',
      detail: `restored from before a rollover: host ${host.name} knows the standby as the manager's key`,
    });
  }

  async #learnPins(host: Host, channel: HostChannel, signal: AbortSignal): Promise<void> {
    const { current, next } = await channel.agent.call(announceIdentity, {}, { signal });
    const pins = [current, next].flatMap((pin) => (pin === null ? [] : [parseSpkiPin(pin)]));
    if (pins.join() === host.agentPins.join()) return;
    const { repository, audit, channels } = this.#context;
    await this.#refuseKeysOfOthers(host, pins);
    const after = await repository.update(host.id, (now) => ({ ...now, agentPins: pins }));
    await audit.append({
      actor: 'manager',
      action: 'host.pins',
      subject: host.name,
      outcome: 'done',
      detail: `known by ${pins.join(' and ')} now, by ${host.agentPins.join(' and ')} before`,
    });
    await channels.of(after);
    await channel.waitUntilUp(signal);
  }

  async #refuseKeysOfOthers(host: Host, pins: readonly SpkiPin[]): Promise<void> {
    try {
      await refuseKeysOfOthers(host, pins, this.#context.repository);
    } catch (error) {
      // Once: it may come back as often as it likes.
      const said = pins.join();
      if (this.#refused.get(host.id) !== said) {
        this.#refused.set(host.id, said);
        const entry = { actor: 'manager', action: 'host.pins', subject: host.name } as const;
        await this.#context.audit.append({ ...entry, outcome: 'refused', detail: describeError(error) });
      }
      throw error;
    }
  }

  async #tellPins(host: Host, channel: HostChannel, signal: AbortSignal): Promise<void> {
    for (;;) {
      const pins = await this.#identity.managerPins();
      if (this.#told.get(host.id) === pins.number) return;
      try {
        await channel.agent.call(putManagers, { body: pins }, { signal });
        this.#told.set(host.id, pins.number);
      } catch (error) {
        // A rollover has told it a newer number meanwhile.
        const { number } = await this.#identity.managerPins();
        if (!isTrustError(error, 'managers.outdated')) throw error;
        if (number === pins.number) throw aheadOfUs(host, error);
      }
    }
  }

  /** What a restored manager was before is let go once every host knows it as it is. */
  async #endRecovery(): Promise<void> {
    if (this.#identity.recovery === 'none') return;
    const { number } = await this.#identity.managerPins();
    const hosts = await this.#context.repository.list();
    if (!hosts.every((host) => this.#told.get(host.id) === number)) return;
    await this.#identity.recovered();
    await this.#identity.retire();
    this.#context.channels.useIdentities(this.#identity.all);
    const told = hosts.map(async (host) => {
      const channel = await this.#context.channels.of(host);
      await this.#tellPins(host, channel, AbortSignal.timeout(30_000));
    });
    // Whoever went away in between is told when it comes back.
    await Promise.allSettled(told);
  }
}

function aheadOfUs(host: Host, cause: TrustError): TrustError {
  return new TrustError(
    'manager.behind',
    'conflict',
    `cannot tell host ${host.name} the manager's keys: it holds newer numbers than this manager`,
    {
      cause,
      hint: 'another manager, or a later state of this one, has driven it: stop that one, then restore this one by virt-trust restore, which raises the epoch',
    },
  );
}
