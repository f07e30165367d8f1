import type { HostCapabilities } from '@virt-trust/contract/model/capabilities.ts';

/** What this host can do in migrations, looked at anew whenever something of it changes. */
export interface CapabilityWatch {
  start(): Promise<void>;
  /** Null before the first look. */
  report(): HostCapabilities | null;
  stop(): Promise<void>;
}
