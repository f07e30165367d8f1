import type { AgentContext } from './agent-context.ts';
import type { ApplyEngine } from './apply-engine.ts';
import type { Arrivals } from './arrivals.ts';
import type { CapabilityWatch } from './capability-watch.ts';
import type { Crls } from './crls.ts';
import type { Grants } from './grants.ts';
import type { Migrations } from './migrations.ts';
import type { NetworkWatch } from './network-watch.ts';
import type { Preflights } from './preflights.ts';

export interface Engines {
  readonly apply: ApplyEngine;
  readonly crls: Crls;
  readonly migrations: Migrations;
  readonly network: NetworkWatch;
  readonly grants: Grants;
  readonly arrivals: Arrivals;
  readonly preflights: Preflights;
  readonly capabilities: CapabilityWatch;
}

/** Makes the parts that change the host, and those that watch it. */
export type EngineFactory = (context: AgentContext) => Promise<Engines>;
