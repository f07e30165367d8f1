import { isIP } from 'node:net';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import type { MigrationOrder, MigrationStatus } from '@virt-trust/contract/model/migration.ts';
import type { MigrationProgress } from '@virt-trust/contract/model/migration-options.ts';
import { parseInterfaces } from '../inventory/interfaces.ts';
import { parseJobInfo, parseMigrateParameters, streamSource } from './job-info.ts';

const LOCAL = ['-c', 'qemu:///system'];
/** A large VM takes hours; what hangs is ended by a person. */
const MIGRATION_MS = 24 * 3600 * 1000;
const QUESTION_MS = 20_000;
/** MiB/s at which a stream begins, until it was seen to be TLS. */
const HELD_MIB = 1;
/** libvirt's own bound (QEMU_DOMAIN_MIG_BANDWIDTH_MAX): as fast as the network goes. */
const UNLIMITED_MIB = 8_796_093_022_207;
const PARAMETERS = '{"execute":"query-migrate-parameters"}';

/** libvirt's command line client, as migrations use it. */
export class Virsh {
  readonly #run: RunHostCommand;

  constructor(run: RunHostCommand) {
    this.#run = run;
  }

  /** Runs a client-managed migration to its end; throws with libvirt's words in full. */
  async migrate(order: MigrationOrder, pkipath: string, signal: AbortSignal): Promise<void> {
    await this.#run('virsh', migrateArguments(order, pkipath), { timeoutMs: MIGRATION_MS, signal });
  }

  async progress(vm: string): Promise<MigrationProgress | undefined> {
    return parseJobInfo(await this.#ask(['domjobinfo', '--domain', vm]));
  }

  /** Whether libvirt works on the VM now. */
  async hasJob(vm: string): Promise<boolean> {
    const output = await this.#ask(['domjobinfo', '--domain', vm]);
    return /^Job type:\s+(?!None\b)\S/m.test(output);
  }

  /** What carries the stream of an order, as QEMU and the kernel say; undefined where it has no TLS credentials now. */
  async proof(order: MigrationOrder): Promise<MigrationStatus['proof'] | undefined> {
    const command = ['qemu-monitor-command', '--domain', order.vm, '--cmd', PARAMETERS];
    const tls = parseMigrateParameters(await this.#ask(command));
    if (tls === undefined) return undefined;
    // What is not seen of the connection is no failure of the migration.
    const connection = await this.#connection(order.stream?.address ?? '').catch(() => undefined);
    return connection === undefined ? tls : { ...tls, connection };
  }

  async #connection(to: string): Promise<NonNullable<MigrationStatus['proof']>['connection']> {
    const question = { timeoutMs: QUESTION_MS };
    const sockets = ['-Htn', 'state', 'established', 'dst', uriHost(to)];
    const { stdout } = await this.#run('ss', sockets, question);
    const from = streamSource(stdout, to);
    if (from === undefined) return undefined;
    const cards = await this.#run('ip', ['-j', '-d', 'addr', 'show', 'to', from], question);
    return { from, to, interface: parseInterfaces(cards.stdout)[0]?.name ?? null };
  }

  /** Lets the stream go at that many MiB/s; null for as fast as the network goes. */
  async setSpeed(vm: string, bandwidthMiB: number | null): Promise<void> {
    const speed = String(bandwidthMiB ?? UNLIMITED_MIB);
    await this.#strict(['migrate-setspeed', '--domain', vm, '--bandwidth', speed]);
  }

  /** Where the VM stands on this host: `running`, `paused`, ...; undefined if it is not here. */
  async state(vm: string): Promise<string | undefined> {
    const names = (await this.#strict(['list', '--all', '--name'])).split('\n').map((line) => line.trim());
    if (!names.includes(vm)) return undefined;
    return (await this.#strict(['domstate', '--domain', vm])).trim();
  }

  async abort(vm: string): Promise<void> {
    await this.#strict(['domjobabort', '--domain', vm]);
  }

  async #ask(args: readonly string[]): Promise<string> {
    const { stdout } = await this.#run('virsh', [...LOCAL, ...args], {
      timeoutMs: QUESTION_MS,
      acceptedCodes: [1],
    });
    return stdout;
  }

  async #strict(args: readonly string[]): Promise<string> {
    return (await this.#run('virsh', [...LOCAL, ...args], { timeoutMs: QUESTION_MS })).stdout;
  }
}

/** The arguments of virsh for an order. */
export function migrateArguments(order: MigrationOrder, pkipath: string): string[] {
  if (order.stream === null || order.destination.kind !== 'tls')
    throw new TrustError('migration.mode', 'internal', `cannot migrate ${order.vm} in mode ${order.mode}`);
  const { address: migrationAddress, listenAddress, tlsDestination } = order.stream;
  const libvirtAddress = order.destination.address;
  return [
    ...LOCAL,
    'migrate',
    '--live',
    '--tls',
    // Without it the source's QEMU verifies the host of the URI.
    ...(tlsDestination === null ? [] : ['--tls-destination', tlsDestination]),
    '--migrateuri',
    `tcp://${uriHost(migrationAddress)}`,
    ...(listenAddress === null ? [] : ['--listen-address', listenAddress]),
    '--bandwidth',
    String(HELD_MIB),
    '--domain',
    order.vm,
    '--desturi',
    `qemu+tls://${uriHost(libvirtAddress)}/system?pkipath=${encodeURIComponent(pkipath)}`,
  ];
}

function uriHost(address: string): string {
  return isIP(address) === 6 ? `[${address}]` : address;
}

/** libvirt's own words out of a failed virsh, all of them. */
export function libvirtMessage(error: unknown): string {
  const stderr = error instanceof TrustError ? error.context['stderr'] : undefined;
  const said = typeof stderr === 'string' ? stderr.trim() : '';
  return (
    (said === '' ? describeError(error) : said)
      .replace(/^error: /gm, '')
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is replaced
      .replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, ' ')
      .slice(-8000)
  );
}
