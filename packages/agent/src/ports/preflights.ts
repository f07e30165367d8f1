import type { Grant } from '@virt-trust/contract/model/grant.ts';
import type {
  HandshakeServer,
  PreflightOrder,
  PreflightReport,
} from '@virt-trust/contract/model/preflight.ts';

/** What an agent finds out before a migration. */
export interface Preflights {
  check(order: PreflightOrder, signal: AbortSignal): Promise<PreflightReport>;
  /** Serves one handshake of the peer's with QEMU's own TLS code. */
  serve(grant: Grant, address: string): Promise<HandshakeServer>;
  close(): Promise<void>;
}
