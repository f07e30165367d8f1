import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import type { RevokedParty } from '@virt-trust/contract/model/crl.ts';
import type { RpcDaemon } from '@virt-trust/libvirt/libvirtd-settings.ts';
import { canonicalIpAddress, isIpAddress } from '@virt-trust/pki/ip-address.ts';

/** A connection of a libvirt client over TLS. */
export interface Session {
  readonly id: string;
  readonly address: string | undefined;
  /** Of the client's certificate, as libvirt prints it; undefined while the handshake is under way. */
  readonly subject: string | undefined;
}

/** Commands that one virt-admin is given at once. */
const AT_ONCE = 64;
const ASK_MS = 20_000;

/** The established TLS sessions of the RPC daemon; a daemon that does not run has none. */
export async function listSessions(run: RunHostCommand, daemon: RpcDaemon): Promise<Session[]> {
  const admin = virtAdmin(run, daemon);
  const ids = parseClientList(await admin(`client-list ${daemon}`));
  const known = new Map<string, Session>();
  for (const some of chunks(ids)) {
    const output = await admin(some.map((id) => `client-info ${daemon} ${id}`).join('; '));
    for (const session of parseClientInfo(output)) known.set(session.id, session);
  }
  return ids.map((id) => known.get(id) ?? { id, address: undefined, subject: undefined });
}

/** Ends sessions; one that is gone already is fine. */
export async function cutSessions(
  run: RunHostCommand,
  daemon: RpcDaemon,
  sessions: readonly Session[],
): Promise<void> {
  const admin = virtAdmin(run, daemon);
  for (const some of chunks(sessions))
    await admin(some.map(({ id }) => `client-disconnect ${daemon} ${id}`).join('; '));
}

/** The sessions of revoked parties, by subject or by address. */
export function sessionsOf(sessions: readonly Session[], revoked: readonly RevokedParty[]): Session[] {
  const subjects = new Set(revoked.flatMap((party) => party.subjects));
  const addresses = new Set(revoked.flatMap((party) => party.addresses.flatMap(canonical)));
  return sessions.filter(
    ({ subject, address }) =>
      (subject !== undefined && subjects.has(subject)) || (address !== undefined && addresses.has(address)),
  );
}

/** Reads `virt-admin client-list`: identifier and transport in columns; TLS clients only. */
export function parseClientList(output: string): string[] {
  return output.split('\n').flatMap((line) => /^\s*(\d{1,20})\s+tls\s/.exec(line)?.[1] ?? []);
}

/** Reads `virt-admin client-info` of several clients, a block of lines each. No authority of ours puts a line break into a name. */
export function parseClientInfo(output: string): Session[] {
  const sessions: Session[] = [];
  let block: { id: string; tls: boolean; address?: string; subject?: string } | undefined;
  const end = () => {
    if (block?.tls === true) sessions.push({ id: block.id, address: block.address, subject: block.subject });
    block = undefined;
  };
  for (const line of output.split('\n')) {
    const [, name, value] = /^(\w+)\s*: (.*)$/.exec(line) ?? [];
    if (name === undefined || value === undefined) continue;
    if (name === 'id') {
      end();
      block = { id: value.trim(), tls: false };
    } else if (block === undefined) continue;
    else if (name === 'transport') block.tls = value.trim() === 'tls';
    else if (name === 'sock_addr') {
      const address = addressOf(value.trim());
      if (address !== undefined) block.address = address;
    } else if (name === 'tls_x509_dname') block.subject = value;
  }
  end();
  return sessions;
}

/** `[::ffff:192.0.2.1]:53324`, `192.0.2.1:53324`: a daemon that listens for both families sees IPv4 as mapped. */
function addressOf(text: string): string | undefined {
  const host = text.slice(0, text.lastIndexOf(':')).replace(/^\[|\]$/g, '');
  return canonical(host)[0];
}

function canonical(text: string): string[] {
  const plain = text.replace(/%.*$/, '').replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, '');
  return isIpAddress(plain) ? [canonicalIpAddress(plain)] : [];
}

/** virt-admin goes on after a command that failed, as for a client that has gone, and says so by its exit code. */
function virtAdmin(run: RunHostCommand, daemon: RpcDaemon): (commands: string) => Promise<string> {
  return async (commands) => {
    const { stdout } = await run('virt-admin', ['-c', `${daemon}:///system`, commands], {
      timeoutMs: ASK_MS,
      acceptedCodes: [1],
    });
    return stdout;
  };
}

function* chunks<T>(all: readonly T[]): Generator<readonly T[]> {
  for (let at = 0; at < all.length; at += AT_ONCE) yield all.slice(at, at + AT_ONCE);
}
