import type { Grant } from '@virt-trust/contract/model/grant.ts';

/** This host as the destination of migrations, towards the source's agent. */
export interface Arrivals {
  /** Finds again what runs on from before the agent's end. */
  start(): Promise<void>;
  /** Compares the VM's XML with the grant's; in mode `pinned` starts the relay. */
  create(
    grant: Grant,
    vm: { readonly xml: string; readonly persistentXml: string | null },
  ): Promise<{ relayPort: number | null }>;
  end(grant: Grant, outcome: string): Promise<void>;
  /** Whether streams of a grant are taken still. */
  isRunning(id: string): Promise<boolean>;
  /** Ends all that a grant had opened, sockets included. */
  release(id: string): Promise<void>;
  close(): Promise<void>;
}
