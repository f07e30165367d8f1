import { isIP } from 'node:net';
import { systemClock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import type { TlsProbeOptions } from '@virt-trust/connect/tls-handshake.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import type { Command } from 'commander';
import { readInputFile } from '../input-file.ts';
import { formatTime, writeJson, writeLine } from '../output.ts';
import { jsonOption } from './option.ts';

interface ProbeOptions {
  ca: string;
  cert?: string;
  key?: string;
  serverName?: string;
  json?: boolean;
}

export function addProbeCommand(program: Command): void {
  program
    .command('probe')
    .description('A real handshake from here: what is served, what is wrong')
    .argument('<uri>', 'qemu+tls://HOST/system or vnc://HOST:PORT')
    .option('--ca <file>', 'trusted authorities in PEM', '/etc/pki/CA/cacert.pem')
    .option('--cert <file>', 'client certificate in PEM')
    .option('--key <file>', 'its private key in PEM')
    .option(
      '--server-name <name>',
      'the name or address that the certificate must have, where it is not the host of the URI',
    )
    .addOption(jsonOption())
    .action(probe);
}

async function probe(uri: string, options: ProbeOptions): Promise<void> {
  const { kind, host, port } = parseTarget(uri);
  const common = {
    host,
    port,
    clock: systemClock,
    timeoutMs: 30_000,
    serverName: options.serverName ?? host,
    trust: await readInputFile(options.ca, '--ca'),
    ...(await clientOf(options)),
  };
  const evidence =
    kind === 'libvirt'
      ? await (await import('@virt-trust/connect/probe-libvirt.ts')).probeLibvirt(common)
      : await (await import('@virt-trust/connect/probe-vnc.ts')).probeVnc(common);
  const served = evidence.servedCertificate;
  if (options.json === true) {
    const { der, ...rest } = served;
    return writeJson({ ...evidence, servedCertificate: { ...rest, pem: encodePem('CERTIFICATE', der) } });
  }
  writeLine(`${uri} serves ${served.subject}, from ${served.issuer}`);
  writeLine(`  names        ${served.names.join(', ') || '-'}`);
  writeLine(`  valid        ${formatTime(served.notBefore)} to ${formatTime(served.notAfter)}`);
  writeLine(`  public key   ${served.pin}`);
  writeLine(
    `  handshake    ${evidence.protocol}, ${evidence.cipher}; chain and name verified for ${common.serverName}`,
  );
  if ('authList' in evidence)
    writeLine(`  libvirt      confirmation byte, AUTH_LIST ${evidence.authList.join(' ')}`);
}

async function clientOf({ cert, key }: ProbeOptions): Promise<Pick<TlsProbeOptions, 'client'>> {
  if (cert === undefined && key === undefined) return {};
  if (cert === undefined || key === undefined)
    throw new TrustError(
      'probe.client',
      'invalid',
      'cannot show a client certificate: --cert and --key go together',
    );
  return {
    client: {
      certificatePem: await readInputFile(cert, '--cert'),
      privateKeyPem: await readInputFile(key, '--key'),
    },
  };
}

function parseTarget(uri: string): { kind: 'libvirt' | 'vnc'; host: string; port: number } {
  const url = URL.parse(uri);
  const host = url?.hostname.replace(/^\[|\]$/g, '') ?? '';
  const scheme = url?.protocol ?? '';
  const kind = /^[a-z]+\+tls:$/.test(scheme) ? 'libvirt' : scheme === 'vnc:' ? 'vnc' : null;
  if (kind === null || host === '' || (isIP(host) === 0 && !/^[A-Za-z0-9.-]{1,253}$/.test(host))) {
    throw new TrustError(
      'probe.uri',
      'invalid',
      `cannot probe ${uri}: neither qemu+tls://HOST/system nor vnc://HOST:PORT`,
    );
  }
  return { kind, host, port: Number(url?.port || (kind === 'libvirt' ? 16514 : 5900)) };
}
