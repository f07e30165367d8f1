import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { parseSockets } from '@virt-trust/check/host/sockets.ts';
import type { MigrationOrder, MigrationStatus } from '@virt-trust/contract/model/migration.ts';
import { MIGRATION_PORTS } from '@virt-trust/libvirt/layout.ts';
import { qemuDomainMonitorCommand, type RemoteDomain } from '@virt-trust/libvirt/migration-protocol.ts';
import { canonicalIpAddress, isIpAddress } from '@virt-trust/pki/ip-address.ts';
import { parseInterfaces } from '../inventory/interfaces.ts';
import type { RpcClient } from './rpc-client.ts';

type Proof = NonNullable<MigrationStatus['proof']>;

const QUESTION_MS = 20_000;
const PARAMETERS = '{"execute":"query-migrate-parameters"}';

/** What QEMU on the source says of the stream's TLS; undefined where it names no credentials. */
export async function tlsOfStream(
  source: RpcClient,
  domain: RemoteDomain,
): Promise<Pick<Proof, 'tlsCreds' | 'tlsHostname'> | undefined> {
  const { result } = await source.call(qemuDomainMonitorCommand, { domain, command: PARAMETERS, flags: 0 });
  return parseMigrateParameters(result);
}

/** The stream's TCP connection as the source's kernel shows it; undefined where there is none yet. */
export async function connectionOfStream(
  run: RunHostCommand,
  { stream }: Pick<MigrationOrder, 'stream'>,
): Promise<Proof['connection']> {
  if (stream === null || !isIpAddress(stream.address)) return undefined;
  const to = stream.address;
  const question = { timeoutMs: QUESTION_MS };
  const filter = ['-Htn', 'state', 'established', 'dst', to.includes(':') ? `[${to}]` : to];
  const { stdout } = await run('ss', filter, question);
  const from = streamSource(stdout, to);
  if (from === undefined) return undefined;
  const cards = await run('ip', ['-j', '-d', 'addr', 'show', 'to', from], question);
  return { from, to, interface: parseInterfaces(cards.stdout)[0]?.name ?? null };
}

/** Reads the answer to `query-migrate-parameters`; undefined where it names no TLS credentials. */
export function parseMigrateParameters(
  answer: string,
): { readonly tlsCreds: string; readonly tlsHostname: string } | undefined {
  let value: unknown;
  try {
    value = JSON.parse(answer);
  } catch {
    return undefined;
  }
  const parameters = (value as { return?: Record<string, unknown> } | null)?.return;
  const tlsCreds = parameters?.['tls-creds'];
  const tlsHostname = parameters?.['tls-hostname'];
  if (typeof tlsCreds !== 'string' || tlsCreds === '') return undefined;
  return { tlsCreds: line(tlsCreds), tlsHostname: typeof tlsHostname === 'string' ? line(tlsHostname) : '' };
}

/** The local address of a stream to an address, out of `ss -Htn`; the destination's QEMU listens on libvirt's ports. */
export function streamSource(sockets: string, to: string): string | undefined {
  const { min, max } = MIGRATION_PORTS;
  return parseSockets(sockets).find(
    ({ peer }) =>
      isIpAddress(peer.address) &&
      canonicalIpAddress(peer.address) === canonicalIpAddress(to) &&
      peer.port >= min &&
      peer.port <= max,
  )?.local.address;
}

function line(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is replaced
  return text.replace(/[\u0000-\u001f\u007f]/g, ' ').slice(0, 1000);
}
