import { existsSync } from 'node:fs';
import { systemClock } from '@virt-trust/base/clock.ts';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { SECOND } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { IdentityStore } from '../state/identity.ts';
import { agentPaths } from '../state/paths.ts';
import { isId, RelayFiles, type RelayStatus } from './relay-files.ts';
import { RelayServer } from './relay-server.ts';
import { migrationSockets } from './sockets.ts';

const LOOK_MS = 2 * SECOND;

/**
 * A relay's process: serves one migration's streams until it is told to end, cuts its source off, or the grant expired
 * and nothing runs under it. It outlives the agent.
 */
export async function runRelay(id: string, log: Log, root = '/'): Promise<void> {
  process.umask(0o077);
  if (!isId(id))
    throw new TrustError('relay.no_order', 'invalid', `cannot relay migration ${id}: it is no id`);
  const paths = agentPaths(root);
  const files = new RelayFiles(paths, id);
  const order = await files.order.read();
  if (order === undefined)
    throw new TrustError('relay.no_order', 'not-found', `cannot relay migration ${id}: nothing was ordered`);
  const { grant } = order;
  const ended = Promise.withResolvers<void>();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => ended.resolve());

  let cutOff: string | null = null;
  let server: RelayServer | undefined;
  let writing: Promise<void> = Promise.resolve();
  const tell = (more: Partial<RelayStatus> = {}) => {
    const status: RelayStatus = {
      port: server?.port ?? null,
      ...(server?.use ?? { open: 0, carried: 0 }),
      cutOff,
      failure: null,
      ended: false,
      ...more,
    };
    // A directory that is gone was taken away with the grant.
    writing = writing.then(() => files.status.write(status)).catch(() => {});
    return writing;
  };
  try {
    const { store } = await IdentityStore.open(paths.identity, systemRandomness);
    server = await RelayServer.listen({
      grant,
      identity: store.current,
      sockets: migrationSockets(root, id, grant.vm?.name ?? ''),
      libvirtSocket: libvirtSocket(paths.at),
      clock: systemClock,
      onRefused: (remoteAddress, reason, suppressed) =>
        log.warn({ remoteAddress, reason, suppressed }, 'connection refused'),
      onCutOff: (reason) => {
        log.error({ reason }, 'source cut off');
        cutOff = reason;
        ended.resolve();
      },
    });
  } catch (error) {
    await tell({ failure: describeError(error), ended: true });
    throw error;
  }
  const relay = server;
  log.info({ id, port: relay.port, vm: grant.vm?.name }, 'relaying');
  await tell();
  const timer = setInterval(() => {
    const isIdle = relay.use.open === 0 || !relay.hasBegun;
    if (systemClock.now() > grant.notAfter && isIdle) ended.resolve();
    else if (!existsSync(files.order.path)) ended.resolve();
  }, LOOK_MS);
  await ended.promise;
  clearInterval(timer);
  const { carried } = relay.use;
  await relay.close();
  server = undefined;
  await tell({ carried, ended: true });
  log.info({ id, carried }, 'relay ended');
}

/** Of the daemon that runs VMs itself: with the modular daemons libvirt-sock is a proxy's. */
function libvirtSocket(at: (hostPath: string) => string): string {
  const modular = at('/run/libvirt/virtqemud-sock');
  return existsSync(modular) ? modular : at('/run/libvirt/libvirt-sock');
}
