import { MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import { barrierOf } from './apply/barrier.ts';
import { JournaledEngine } from './apply/engine.ts';
import { SystemEffects } from './apply/system-effects.ts';
import { makeMigrations } from './migration/migrations.ts';
import type { EngineFactory } from './ports.ts';

const PROOF_BOUND_MS = 120 * SECOND;
const CHECK_INTERVAL_MS = 10 * MINUTE;

/** Makes the parts of the agent that change the host. */
export const hostEngines: EngineFactory = async (context) => {
  const { paths, run, firewall, clock, log, mode, record } = context;
  const apply = new JournaledEngine({
    paths,
    clock,
    log,
    mode,
    emit: record,
    effects: new SystemEffects({ paths, run, firewall, clock }),
    barrier: barrierOf(process.env['VIRT_TRUST_BARRIER']),
    proofBoundMs: PROOF_BOUND_MS,
    checkIntervalMs: CHECK_INTERVAL_MS,
  });
  return { apply, migrations: await makeMigrations(context) };
};
