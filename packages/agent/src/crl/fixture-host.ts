import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '@virt-trust/base/clock.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { barrierOf } from '../sets/barrier.ts';
import { agentPaths } from '../state/paths.ts';
import { FileCrlEffects } from './fixtures.ts';
import { HostCrls } from './host-crls.ts';

/** Starts below a root as the agent does, puts the CRL of `root/put.crl` where there is one, and ends. */
async function play(root: string, put: boolean): Promise<void> {
  const paths = agentPaths(root);
  const crls = new HostCrls({
    paths,
    effects: new FileCrlEffects(paths),
    clock: systemClock,
    log: silentLog,
    emit: async () => {},
    barrier: barrierOf(process.env['VIRT_TRUST_CRL_BARRIER']),
    loadBoundMs: 0,
    tickMs: null,
    secondLookMs: null,
  });
  crls.start();
  await crls.idle();
  if (put) {
    const crl = readFileSync(join(root, 'put.crl'), 'utf8');
    const purposes = ['control', 'migration', 'console'] as const;
    await crls.put(
      purposes.map((purpose) => ({ purpose, crl })),
      [],
    );
  }
  await crls.stop();
}

if (process.argv[2] === 'play') await play(process.argv[3] ?? '', process.argv[4] === 'put');
