import { setTimeout as delay } from 'node:timers/promises';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import type { RpcDaemon } from '@virt-trust/libvirt/libvirtd-settings.ts';
import { inTurn } from '../state/atomic-file.ts';
import { cutSessions, listSessions } from './sessions.ts';

/** How long handshakes under way may take before they are cut; no client waits that long for its answer. */
const HANDSHAKE_MS = 3000;
const LOOK_AGAIN_MS = 50;
const ASK_MS = 60_000;

interface ClientLimits {
  readonly clients: number;
  readonly unauthenticated: number;
}

/** What libvirtd.conf(5) has by itself; for limits that a reload which was killed left at nought. */
const DEFAULT_LIMITS: ClientLimits = { clients: 5000, unauthenticated: 20 };

/**
 * Has the daemon read its certificates again; established connections live on, and new ones wait for the moment.
 *
 * SECURITY: server-update-tls frees the credentials that handshakes under way still use, and the daemon dies of that
 * (virnettlscontext.c, virNetTLSContextReloadForServer; seen with libvirt 9.0). So nobody is let in meanwhile: with the
 * limit of clients at nought the daemon accepts no connection, and those that come wait in the sockets' queues.
 */
export function reloadLibvirt(
  run: RunHostCommand,
  daemon: RpcDaemon,
  pause: (milliseconds: number) => Promise<unknown> = delay,
): Promise<void> {
  // A CRL comes while an application runs: one would take the limits that the other has set for those of the host.
  return inTurn(`reload of ${daemon}`, () => reload(run, daemon, pause));
}

/**
 * Lets clients in again where a reload was killed between holding and letting go; true where that was needed. Never
 * while a reload is under way.
 */
export function letClientsIn(run: RunHostCommand, daemon: RpcDaemon): Promise<boolean> {
  return inTurn(`reload of ${daemon}`, async () => {
    const limits = await readLimits(run, daemon);
    if (limits?.held !== true) return false;
    await setLimits(run, daemon, limits);
    return true;
  });
}

async function reload(
  run: RunHostCommand,
  daemon: RpcDaemon,
  pause: (milliseconds: number) => Promise<unknown>,
): Promise<void> {
  const limits = await readLimits(run, daemon);
  if (limits === undefined) return updateTls(run, daemon);
  try {
    await setLimits(run, daemon, { clients: 0, unauthenticated: 0 });
    await untilNoHandshake(run, daemon, pause);
    await updateTls(run, daemon);
  } finally {
    // A daemon that died has the limits of its configuration again, and these are the same.
    await setLimits(run, daemon, limits);
  }
}

async function updateTls(run: RunHostCommand, daemon: RpcDaemon): Promise<void> {
  await run('virt-admin', [...admin(daemon), 'server-update-tls', daemon], { timeoutMs: ASK_MS });
}

function admin(daemon: RpcDaemon): string[] {
  return ['-c', `${daemon}:///system`];
}

/** The limits as they are; undefined where the daemon does not tell them. */
async function readLimits(
  run: RunHostCommand,
  daemon: RpcDaemon,
): Promise<(ClientLimits & { readonly held: boolean }) | undefined> {
  const { stdout } = await run('virt-admin', [...admin(daemon), 'server-clients-info', daemon], {
    timeoutMs: ASK_MS,
    acceptedCodes: [1],
  });
  const number = (name: string) => {
    const text = new RegExp(`^${name}\\s*: (\\d{1,10})\\s*$`, 'm').exec(stdout)?.[1];
    return text === undefined ? undefined : Number(text);
  };
  const [clients, unauthenticated] = [number('nclients_max'), number('nclients_unauth_max')];
  if (clients === undefined || unauthenticated === undefined) return undefined;
  // Killed between holding and letting go: the step is run again, and this is where it is made good.
  return clients === 0 ? { ...DEFAULT_LIMITS, held: true } : { clients, unauthenticated, held: false };
}

async function setLimits(run: RunHostCommand, daemon: RpcDaemon, limits: ClientLimits): Promise<void> {
  const words = [
    ...['server-clients-set', daemon],
    ...['--max-clients', String(limits.clients), '--max-unauth-clients', String(limits.unauthenticated)],
  ];
  await run('virt-admin', [...admin(daemon), ...words], { timeoutMs: ASK_MS });
}

async function untilNoHandshake(
  run: RunHostCommand,
  daemon: RpcDaemon,
  pause: (milliseconds: number) => Promise<unknown>,
): Promise<void> {
  // Without client certificates a session has no subject, under way or not.
  if (!(await verifiesClients(run, daemon))) return;
  for (let waited = 0; ; waited += LOOK_AGAIN_MS) {
    const underWay = (await listSessions(run, daemon)).filter(({ subject }) => subject === undefined);
    if (underWay.length === 0) return;
    if (waited >= HANDSHAKE_MS) return cutSessions(run, daemon, underWay);
    await pause(LOOK_AGAIN_MS);
  }
}

async function verifiesClients(run: RunHostCommand, daemon: RpcDaemon): Promise<boolean> {
  const unverified = '^[[:space:]]*tls_no_verify_certificate[[:space:]]*=[[:space:]]*"?1';
  const { code } = await run('grep', ['-E', '-q', unverified, `/etc/libvirt/${daemon}.conf`], {
    acceptedCodes: [1, 2],
  });
  return code !== 0;
}
