import type { PreflightOrder } from '@virt-trust/contract/model/preflight.ts';
import type { PeerClient } from '../peers/peer-client.ts';
import type { AgentContext } from '../ports/agent-context.ts';
import type { QemuUser } from '../services/qemu-process.ts';
import type { FindingList } from './finding-list.ts';
import type { Attempted } from './handshake-judgement.ts';

/** What the handshakes of one side with the other are made with. */
export interface HandshakeParts {
  readonly context: Pick<AgentContext, 'paths' | 'run' | 'clock'>;
  readonly order: PreflightOrder;
  readonly peer: PeerClient | undefined;
  readonly list: FindingList;
  readonly signal: AbortSignal;
  readonly qemu: {
    readonly directory: string;
    readonly version: string;
    readonly user: QemuUser;
    /** The CRL of migrations that this host holds; undefined where it has none. */
    readonly crl: string | undefined;
  };
  readonly libvirtVersion: string;
}

/** How long one handshake may take. */
export const HANDSHAKE_MS = 8_000;
/** How long QEMU's own client may take, which is a program to start first. */
export const QEMU_IMG_MS = 20_000;

/** A handshake that is about to be made, in the words of the report. */
export function attemptOf(
  { role, own, peer }: PreflightOrder,
  service: Attempted['service'],
  target: string,
  verified: string,
): Attempted {
  return { service, from: own, to: peer, target, verified, isBack: role === 'destination' };
}
