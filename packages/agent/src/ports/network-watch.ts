import type { HostNetwork } from '@virt-trust/contract/model/inventory.ts';

/** The host's interfaces, addresses and name, as they are once they have come to rest. */
export interface NetworkWatch {
  /** Resolves after the first look. */
  start(): Promise<void>;
  /** Null before the first look. */
  report(): HostNetwork | null;
  stop(): Promise<void>;
}
