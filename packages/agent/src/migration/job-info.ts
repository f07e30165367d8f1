import { parseSockets } from '@virt-trust/check/host/sockets.ts';
import type { MigrationProgress } from '@virt-trust/contract/model/migration-options.ts';
import { MIGRATION_PORTS } from '@virt-trust/libvirt/layout.ts';
import { canonicalIpAddress, isIpAddress } from '@virt-trust/pki/ip-address.ts';

const UNITS: Readonly<Record<string, number>> = {
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  PiB: 2 ** 50,
};

/** Reads `virsh domjobinfo`; undefined where no job runs or it tells nothing yet. */
export function parseJobInfo(output: string): MigrationProgress | undefined {
  const values = new Map<string, string>();
  for (const line of output.split('\n').slice(0, 100)) {
    const at = line.indexOf(':');
    if (at > 0) values.set(line.slice(0, at).trim(), line.slice(at + 1).trim());
  }
  const kind = values.get('Job type');
  if (kind === undefined || kind === 'None') return undefined;
  const totalBytes = bytes(values.get('Data total'));
  if (totalBytes === 0) return undefined;
  const remainingBytes = bytes(values.get('Data remaining'));
  const processedBytes = bytes(values.get('Data processed'));
  const done = Math.max(0, totalBytes - remainingBytes);
  return {
    percent: Math.min(100, (done / totalBytes) * 100),
    processedBytes,
    remainingBytes,
    totalBytes,
    bytesPerSecond: bytes(values.get('Memory bandwidth')?.replace(/\/s$/, '')),
    memory: null,
    disk: null,
    iteration: null,
    dirtyBytesPerSecond: null,
    estimatedSeconds: null,
    expectedDowntimeMs: null,
    elapsedMs: 0,
    stage: 'pre-copy',
  };
}

/** `12.345 MiB` in bytes; 0 for what is no size. */
function bytes(text: string | undefined): number {
  const parts = /^(\d{1,18}(?:\.\d{1,6})?) (\w{1,3})$/.exec(text ?? '');
  const unit = UNITS[parts?.[2] ?? ''];
  if (parts === null || unit === undefined) return 0;
  const value = Math.round(Number(parts[1]) * unit);
  return Number.isSafeInteger(value) ? value : 0;
}

/** What QEMU says of the migration's TLS on the source. */
interface MigrationTls {
  readonly tlsCreds: string;
  readonly tlsHostname: string;
}

/** Reads the answer to `query-migrate-parameters`; undefined where it names no TLS credentials. */
export function parseMigrateParameters(answer: string): MigrationTls | undefined {
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
