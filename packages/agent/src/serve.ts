import { describeError } from '@virt-trust/base/error.ts';
import { type AgentOptions, runAgent } from './agent.ts';
import { uninstallAgent } from './install/uninstall.ts';

/** Runs the agent of this host as its service does, until SIGTERM, SIGINT or its removal. */
export async function serveAgent({ log, engines }: Pick<AgentOptions, 'log' | 'engines'>): Promise<void> {
  const agent = await runAgent({ log, engines, uninstall: () => uninstallAgent() });
  const stopped = Promise.withResolvers<void>();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    // A second signal finds the end already under way.
    process.on(signal, () => stopped.resolve());
  }
  agent.removed.then(
    () => log.info({}, 'removed'),
    (error: unknown) => log.error({ reason: describeError(error) }, 'removal failed'),
  );
  await stopped.promise;
  log.info({}, 'stopping');
  await agent.close();
}
