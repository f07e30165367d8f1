import { TrustError } from '@virt-trust/base/error.ts';
import { pinMatches, type SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { PinSet, requireSeparateRoles } from '@virt-trust/channel/pins.ts';
import { ManagerPins } from '@virt-trust/contract/model/agent-identity.ts';
import { Document } from './document.ts';

/** Whom the agent obeys: pins under a number that only grows, so that an old set can't be played back. */
export class ManagerStore {
  readonly #document: Document<typeof ManagerPins>;
  #managers: ManagerPins;
  #pins: PinSet<'manager'>;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(document: Document<typeof ManagerPins>, managers: ManagerPins) {
    this.#document = document;
    this.#managers = managers;
    this.#pins = new PinSet('manager', managers.pins);
  }

  /** Reads the managers from a file; throws `managers.none` where there is none, `state.corrupt`, `pin.malformed`. */
  static async open(path: string): Promise<ManagerStore> {
    const document = documentAt(path);
    const managers = await document.read();
    if (managers === undefined) {
      throw new TrustError('managers.none', 'failed', `cannot start the agent: ${path} is not there`, {
        context: { path },
        hint: 'Enrol the host: virt-trust host add.',
      });
    }
    return new ManagerStore(document, managers);
  }

  /** Whether `install` would change the file. */
  static async wouldChange(path: string, managers: ManagerPins): Promise<boolean> {
    // A damaged file is what a new enrolment mends.
    const known = await documentAt(path)
      .read()
      .catch(() => undefined);
    return known === undefined || !sameManagers(known, managers);
  }

  /** Sets the managers by the word of root on the host, who is bound by no number; throws as `replace` does. */
  static async install(path: string, managers: ManagerPins, agentPins: PinSet<'agent'>): Promise<void> {
    requireSeparateRoles(new PinSet('manager', managers.pins), agentPins);
    await documentAt(path).write(managers);
  }

  get managers(): ManagerPins {
    return this.#managers;
  }

  get pins(): PinSet<'manager'> {
    return this.#pins;
  }

  /**
   * Sets the managers at the request of one of them, durably. Throws `managers.outdated` for a number that is not
   * newer, `managers.excludes_asker`, `pin.malformed`, `channel.pin_role`.
   */
  replace(managers: ManagerPins, asker: SpkiPin, agentPins: PinSet<'agent'>): Promise<ManagerPins> {
    const work = async () => {
      // Read again in full: a pin that does not parse must not reach the file, it would shut everybody out.
      const pins = new PinSet('manager', managers.pins);
      requireSeparateRoles(pins, agentPins);
      // SECURITY: a manager can't be locked out by a slip of its own, nor by an order that another one was given.
      if (!pinMatches(asker, pins)) throw excludesAsker(asker);
      if (sameManagers(managers, this.#managers)) return this.#managers;
      // SECURITY: (epoch, number) only grows, so that a set that once held a stolen key can't come back.
      if (!isNewer(managers, this.#managers)) throw outdated(managers, this.#managers);
      await this.#document.write(managers);
      this.#managers = managers;
      this.#pins = pins;
      return managers;
    };
    const turn = this.#last.then(work, work);
    this.#last = turn.catch(() => {});
    return turn;
  }
}

function documentAt(path: string): Document<typeof ManagerPins> {
  return new Document(path, ManagerPins, 'Enrol the host again: virt-trust host add.');
}

function isNewer(a: ManagerPins, b: ManagerPins): boolean {
  return a.epoch > b.epoch || (a.epoch === b.epoch && a.number > b.number);
}

function sameManagers(a: ManagerPins, b: ManagerPins): boolean {
  return a.epoch === b.epoch && a.number === b.number && JSON.stringify(a.pins) === JSON.stringify(b.pins);
}

function excludesAsker(asker: SpkiPin): TrustError {
  return new TrustError(
    'managers.excludes_asker',
    'conflict',
    `cannot set the managers: ${asker}, who asks, is not among them`,
    { context: { asker }, hint: 'Let a manager that stays send the new set.' },
  );
}

function outdated(given: ManagerPins, known: ManagerPins): TrustError {
  return new TrustError(
    'managers.outdated',
    'conflict',
    `cannot set the managers: number ${given.epoch}.${given.number} is not newer than ${known.epoch}.${known.number}`,
    {
      context: {
        given: { epoch: given.epoch, number: given.number },
        known: { epoch: known.epoch, number: known.number },
      },
      hint: 'A manager that was restored from a backup must raise its epoch.',
    },
  );
}
