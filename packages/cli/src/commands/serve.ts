import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { isSea } from 'node:sea';
import { TrustError } from '@virt-trust/base/error.ts';
import { VERSION } from '@virt-trust/base/version.ts';
import type { ListenOptions } from '@virt-trust/manager/http/listen.ts';
import { type Command, Option } from 'commander';
import { readInputFile } from '../input-file.ts';
import { writeErrorLine, writeLine } from '../output.ts';
import { collect } from './option.ts';

/** Of both families; of IPv4 alone where the kernel has no IPv6. */
const ANNOUNCE_EVERYWHERE = '[::]:16517';

interface ServeOptions {
  stateDir: string;
  /** As `backup` and `restore` name it. */
  stateDirectory?: string;
  listen: string;
  statusListen?: string;
  announceListen: string;
  program?: string;
  tlsCertificate?: string;
  tlsKey?: string;
  permitDns?: string[];
  permitSubnet?: string[];
  rotateSealKey?: boolean;
}

export function addServeCommand(program: Command): void {
  program
    .command('serve')
    .description('Run the manager: embedded store and internal authorities')
    .option('--state-dir <directory>', 'where the store and the keys are', '/var/lib/virt-trust-manager')
    .addOption(new Option('--state-directory <directory>').hideHelp())
    .option('--listen <address:port>', 'where the API is served', '127.0.0.1:16516')
    .option(
      '--status-listen <address:port>',
      'where CRLs and OCSP are served besides, in the clear, to anybody (they are signed)',
    )
    .option(
      '--announce-listen <[address:]port>',
      'where hosts whose addresses changed make themselves known by their keys; `off` for nowhere',
      ANNOUNCE_EVERYWHERE,
    )
    .option('--tls-certificate <file>', 'certificate of the API, in PEM; needed past loopback')
    .option('--tls-key <file>', 'its private key, in PEM')
    .option('--program <file>', 'the executable that is deployed to hosts')
    .option(
      '--permit-dns <domain>',
      'at the first start: the authorities certify names below it only',
      collect,
    )
    .option(
      '--permit-subnet <cidr>',
      'at the first start: the authorities certify addresses in it only',
      collect,
    )
    .option(
      '--rotate-seal-key',
      'first seal every secret of the store under a fresh key, and destroy the old one',
    )
    .action(serve);
}

async function serve(options: ServeOptions): Promise<void> {
  const { startManager } = await import('@virt-trust/manager/manager.ts');
  const manager = await startManager({
    stateDirectory: options.stateDirectory ?? options.stateDir,
    version: VERSION,
    listen: { ...parseListen(options.listen), ...(await tlsOf(options)) },
    statusListen: options.statusListen === undefined ? undefined : parseListen(options.statusListen),
    announceListen: parseAnnounceListen(options.announceListen),
    agentProgram: programOf(options.program),
    credentialsDirectory: process.env['CREDENTIALS_DIRECTORY'],
    rotateSealKey: options.rotateSealKey === true,
    constraints: { dns: options.permitDns ?? [], subnets: options.permitSubnet ?? [] },
  });
  writeLine(`The manager serves at ${manager.url}`);
  if (manager.statusUrl !== undefined) writeLine(`CRLs and OCSP are served at ${manager.statusUrl}`);
  if (manager.initialToken !== undefined) {
    writeLine('The token of the first administrator, shown this once (give it to: virt-trust login):');
    writeLine(`  ${manager.initialToken}`);
  }
  const { promise, resolve } = Promise.withResolvers<void>();
  // Ctrl-C may arrive twice (from the terminal and from npm); a second one is no reason to hurry.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => resolve());
  await promise;
  await manager.close();
}

function parseAnnounceListen(text: string): { address?: string; port: number } | undefined {
  if (text === 'off') return undefined;
  if (text === ANNOUNCE_EVERYWHERE) return { port: 16517 };
  return /^\d{1,5}$/.test(text) ? { port: parseListen(`[::]:${text}`).port } : parseListen(text);
}

function parseListen(text: string): { address: string; port: number } {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65535) {
    throw new TrustError('cli.listen', 'invalid', `cannot listen on ${text}: not ADDRESS:PORT`, {
      hint: 'write it like 127.0.0.1:16516 or [::1]:16516',
    });
  }
  return { address: match[1] ?? match[2] ?? '', port };
}

async function tlsOf(options: ServeOptions): Promise<Pick<ListenOptions, 'tls'>> {
  if (options.tlsCertificate === undefined && options.tlsKey === undefined) return {};
  if (options.tlsCertificate === undefined || options.tlsKey === undefined)
    throw new TrustError(
      'cli.tls',
      'invalid',
      'cannot serve TLS: --tls-certificate and --tls-key go together',
    );
  // One after the other: of two that are not there the same one is always named.
  const certificate = await readInputFile(options.tlsCertificate, '--tls-certificate');
  const key = await readInputFile(options.tlsKey, '--tls-key');
  return { tls: { certificate, key } };
}

/** The one executable deploys itself; a checkout deploys the one it built. */
function programOf(given: string | undefined): string {
  if (given !== undefined) return given;
  if (isSea()) return process.execPath;
  const built = join(import.meta.dirname, '../../../../dist/virt-trust');
  if (!existsSync(built))
    writeErrorLine('hint', 'hosts cannot be added before the program was built: ./virt-trust build');
  return built;
}
