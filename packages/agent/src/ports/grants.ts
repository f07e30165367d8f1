import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { PinSet } from '@virt-trust/channel/pins.ts';
import type { Grant, GrantedOperation, GrantState } from '@virt-trust/contract/model/grant.ts';

/** Who may come in through the peer door now, and who hears of those who may not. */
export interface PeerGuests {
  pins(): PinSet<'agent'>;
  admitsAddress(remoteAddress: string): boolean;
  /** How many grants name the key. */
  grantsOf(pin: SpkiPin): number;
  /** Told within bounds, however often it is called. */
  refused(subject: string, message: string): void;
}

/** The peer door, as what opens it sees it. */
export interface PeerDoorControl {
  /** Resolves with the port. */
  open(guests: PeerGuests): Promise<number>;
  /** Takes up a changed key of this host; cuts off those who are guests no more. */
  refresh(): void;
  close(): Promise<void>;
}

/** An agent that asks: by the key that its handshake proved, and from where it came. */
export interface AskingPeer {
  readonly pin: SpkiPin;
  readonly address: string;
}

/** What it asks. */
export interface AskedOperation {
  readonly granted: GrantedOperation;
  /** Whether it belongs to a migration that has begun: such may be asked after the grant's `notAfter` too. */
  readonly goesOn: boolean;
}

/** Permissions for other agents, given by managers; the peer door is open as long as there is one. */
export interface Grants {
  /** Opens what was granted before the agent's end. */
  start(door: PeerDoorControl): Promise<void>;
  /** Throws `grant.not_yours` for a grant of another manager, and `grant.*` for one that must not be given. */
  put(grant: Grant, manager: SpkiPin): Promise<GrantState>;
  /** One that is not there is fine. */
  remove(id: string, manager: SpkiPin): Promise<void>;
  /** Those of one manager, or all. */
  list(manager?: SpkiPin): GrantState[];
  /** The grant by which a peer asks for an operation; throws `grant.*` where there is none for it. */
  admit(id: string, peer: AskingPeer, asked: AskedOperation): Grant;
  /** The grant of that id, whoever asks; undefined where there is none. */
  find(id: string): Grant | undefined;
  /** The migration of a grant, if there is one, has begun: how it does may be asked after `notAfter` too. */
  begin(id: string): Promise<void>;
  /** The migration of a grant is over: nothing more is asked under it, and it goes once the signal is aborted. */
  end(id: string, answered: AbortSignal): void;
  /** Takes up changed managers and keys: grants of a manager that was removed go at once. */
  refresh(): Promise<void>;
  close(): Promise<void>;
}
