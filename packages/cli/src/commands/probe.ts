import { homedir } from 'node:os';
import { systemClock } from '@virt-trust/base/clock.ts';
import { type ErrorCategory, TrustError } from '@virt-trust/base/error.ts';
import type { ClientFiles } from '@virt-trust/connect/client-files.ts';
import type { ProbeEvidence } from '@virt-trust/connect/diagnosis.ts';
import type { ProbeReport } from '@virt-trust/connect/probe-report.ts';
import type { ProbeUri } from '@virt-trust/connect/probe-uri.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import type { Command } from 'commander';
import { readInputFile } from '../input-file.ts';
import { formatTime, writeJson, writeLine } from '../output.ts';
import { jsonOption } from './option.ts';

interface ProbeOptions {
  ca?: string;
  crl?: string;
  cert?: string;
  key?: string;
  serverName?: string;
  hostSubject?: string;
  libvirt: string;
  timeout: string;
  json?: boolean;
}

const HELP = `
Without options the files are those that the URI's own client takes: libvirt's (pkipath of the URI, ~/.pki/libvirt,
/etc/pki), gtk-vnc's for vnc://, spice-gtk's for spice://. no_verify, no_sanity and pkipath in the URI are honoured.
Ends with 0 where both sides took each other, 1 where the client refuses, 5 where the server does, 6 where nobody answers.`;

export function addProbeCommand(program: Command): void {
  program
    .command('probe')
    .description('A real handshake from here, as the URI’s own client makes it: which side refuses, and why')
    .argument('<uri>', 'qemu+tls://HOST/system, vnc://HOST:PORT or spice://HOST?tls-port=PORT')
    .option('--ca <file>', 'trusted authorities in PEM')
    .option('--crl <file>', 'CRLs in PEM')
    .option('--cert <file>', 'client certificate in PEM')
    .option('--key <file>', 'its private key in PEM')
    .option(
      '--server-name <name>',
      'the name or address that the certificate must have, where it is not the host of the URI',
    )
    .option(
      '--host-subject <subject>',
      "SPICE: the subject that the certificate must have, in place of the host's name",
    )
    .option('--libvirt <version>', "by the rules of this version of libvirt's client", '9.0.0')
    .option('--timeout <seconds>', 'how long it may take', '30')
    .addOption(jsonOption())
    .addHelpText('after', HELP)
    .action(probe);
}

async function probe(text: string, options: ProbeOptions): Promise<void> {
  const [{ parseProbeUri }, { diagnose }] = await Promise.all([
    import('@virt-trust/connect/probe-uri.ts'),
    import('@virt-trust/connect/diagnosis.ts'),
  ]);
  const parsed = parseProbeUri(text);
  const uri =
    parsed.kind === 'spice' && options.hostSubject !== undefined
      ? { ...parsed, hostSubject: options.hostSubject }
      : parsed;
  const files = await filesOf(uri, options);
  const { report, evidence } = await diagnose({
    uri,
    files,
    serverName: options.serverName,
    checker: { program: 'libvirt', version: versionOf(options.libvirt) },
    clock: systemClock,
    timeoutMs: secondsOf(options.timeout) * 1000,
  });
  if (options.json === true) writeJson(jsonOf(text, files, report, evidence));
  else write(text, report, evidence);
  if (report.outcome !== 'accepted') throw refusal(text, uri, report);
}

async function filesOf(uri: ProbeUri, { ca, crl, cert, key }: ProbeOptions): Promise<ClientFiles> {
  if ((cert === undefined) !== (key === undefined))
    throw new TrustError(
      'probe.client',
      'invalid',
      'cannot show a client certificate: --cert and --key go together',
    );
  const { clientFile, libvirtClientFiles, spiceClientFiles, vncClientFiles } = await import(
    '@virt-trust/connect/client-files.ts'
  );
  const home = homedir();
  // libvirt's client takes nothing from the home of root.
  const found =
    uri.kind === 'libvirt'
      ? libvirtClientFiles({ home: process.getuid?.() === 0 ? null : home }, uri.pkipath)
      : uri.kind === 'vnc'
        ? vncClientFiles({ home })
        : spiceClientFiles({ home });
  for (const [option, file] of Object.entries({ ca, crl, cert, key }))
    if (file !== undefined) await readInputFile(file, `--${option}`);
  // Whoever names an authority means it alone: a CRL and an identity that lie elsewhere have nothing to do with it.
  const base = ca === undefined ? found : { ...found, ...(await nothingBut(found)) };
  return {
    ca: ca === undefined ? base.ca : clientFile(ca),
    crl: crl === undefined ? base.crl : clientFile(crl),
    certificate: cert === undefined ? base.certificate : clientFile(cert),
    key: key === undefined ? base.key : clientFile(key),
  };
}

async function nothingBut({ crl, certificate, key }: ClientFiles): Promise<Omit<ClientFiles, 'ca'>> {
  const state = { kind: 'missing' } as const;
  return { crl: { ...crl, state }, certificate: { ...certificate, state }, key: { ...key, state } };
}

function versionOf(text: string): string {
  if (/^\d{1,3}\.\d{1,3}(?:\.\d{1,3})?$/.test(text)) return text;
  throw new TrustError(
    'probe.libvirt',
    'invalid',
    `cannot judge by libvirt ${text}: not a version like 9.0.0`,
  );
}

function secondsOf(text: string): number {
  const seconds = Number(text);
  if (Number.isFinite(seconds) && seconds > 0 && seconds <= 3600) return seconds;
  throw new TrustError('probe.timeout', 'invalid', `cannot wait ${text}: not 1 to 3600 seconds`);
}

function jsonOf(uri: string, files: ClientFiles, report: ProbeReport, evidence: ProbeEvidence | undefined) {
  const { served, ...rest } = report;
  const paths = Object.entries(files).map(([part, { path, state }]) => [part, { path, state: state.kind }]);
  return {
    uri,
    ...evidence,
    ...rest,
    files: Object.fromEntries(paths),
    servedCertificate: served ? pemOf(served) : null,
  };
}

function pemOf({ der, ...rest }: NonNullable<ProbeReport['served']>) {
  return { ...rest, pem: encodePem('CERTIFICATE', der) };
}

function write(uri: string, report: ProbeReport, evidence: ProbeEvidence | undefined): void {
  const { served, protocol, cipher } = report;
  if (served) {
    writeLine(`${uri} serves ${served.subject}, from ${served.issuer}`);
    writeLine(`  names        ${served.names.join(', ') || '-'}`);
    writeLine(`  valid        ${formatTime(served.notBefore)} to ${formatTime(served.notAfter)}`);
    writeLine(`  public key   ${served.pin}`);
    if (protocol !== undefined) writeLine(`  handshake    ${protocol}, ${cipher}`);
  }
  if (evidence !== undefined) writeLine(`  accepted     ${report.detail}`);
  if (evidence !== undefined && 'authList' in evidence)
    writeLine(`  libvirt      confirmation byte, AUTH_LIST ${evidence.authList.join(' ')}`);
  for (const note of report.notes) writeLine(`  note         ${note}`);
  for (const { reason, standing, detail } of report.causes)
    writeLine(`  ${standing.padEnd(12)} ${reason}: ${detail}`);
}

function refusal(text: string, uri: ProbeUri, report: ProbeReport): TrustError {
  const { outcome, side, reason, detail, hint } = report;
  const category: ErrorCategory =
    outcome === 'unreachable' ? 'unavailable' : side === 'server' ? 'denied' : 'failed';
  const who =
    outcome === 'unreachable'
      ? `nobody answers at ${uri.host} port ${uri.port}`
      : `the ${side} refuses (${reason})`;
  return new TrustError(
    `probe.${reason ?? 'failed'}`,
    category,
    `cannot connect to ${text}: ${who}: ${detail}`,
    {
      ...(hint === null ? {} : { hint }),
    },
  );
}
