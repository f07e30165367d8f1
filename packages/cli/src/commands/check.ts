import { systemClock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import { type CheckFinding, VERDICT_EXIT_CODES, type Verdict } from '@virt-trust/check/report.ts';
import { type Command, Option } from 'commander';
import { parseTimeWord, parseVersionWord } from '../check-words.ts';
import { writeJson, writeLine } from '../output.ts';
import { jsonOption } from './option.ts';

interface CheckOptions {
  path?: string;
  role?: 'server' | 'client';
  peer?: string;
  name?: string;
  at?: string;
  libvirt?: string;
  qemu?: string;
  uri?: string;
  json?: boolean;
}

const HELP = `
Without --path: everything of this host that has to do with libvirt's and QEMU's TLS, with no manager and no agent,
as root or as a user, who then learns what could not be read.

With --path: one directory with the file names of libvirt's pkipath (cacert.pem, servercert.pem ...) or of QEMU
(ca-cert.pem, server-cert.pem ...), and nothing else of the machine; with --peer the certificate that the other end
shows, as the program in the given role judges it in a handshake.

The verdict is broken where libvirt or QEMU refuses, warning where something goes wrong later or elsewhere, else ok.
Exit codes: 0 ok, 1 warning, 2 broken. Wrong words end with 2 as well: nothing is on standard output then, and the
reason is on standard error.`;

export function addCheckCommand(program: Command): void {
  program
    .command('check')
    .description('What is wrong with the TLS of libvirt and QEMU, here or in a directory')
    .option('--path <directory>', 'judge this directory alone')
    .addOption(new Option('--role <role>', 'the end that the directory is for').choices(['server', 'client']))
    .option('--peer <file>', 'judge the certificate that the other end shows, against the directory')
    .option('--name <host>', 'the name or address by which that server is reached')
    .option('--at <time>', 'as of this time: 2026-11-22T04:00:00Z, another zone, a day, seconds since 1970')
    .option('--libvirt <version>', "by this libvirt's rules; where left out, by the installed one's")
    .option('--qemu <version>', "by this QEMU's rules; where left out, by the installed one's")
    .option(
      '--uri <uri>',
      'of a full check: the client files of this URI, such as qemu+tls://H/system?pkipath=DIR',
    )
    .addOption(jsonOption())
    .addHelpText('after', HELP)
    .action(check);
}

async function check(given: CheckOptions): Promise<void> {
  for (const word of ['path', 'peer', 'name', 'uri'] as const)
    if (given[word]?.trim() === '') throw wrong(`--${word} is empty`);
  const options = { ...given, ...versionsOf(given) };
  const at = options.at === undefined ? systemClock.now() : parseTimeWord(options.at);
  if (options.path === undefined) {
    for (const word of ['role', 'peer', 'name'] as const)
      if (options[word] !== undefined) throw wrong(`--${word} goes with --path`);
    const { checkHost } = await import('@virt-trust/check/host-check.ts');
    const { uri, libvirt, qemu } = options;
    const report = await checkHost({ at, clock: systemClock, uri, libvirt, qemu });
    tell(options, report, report.groups);
    return;
  }
  if (options.role === undefined) throw wrong('--path needs --role server or --role client');
  if (options.uri !== undefined) throw wrong('--uri goes with a full check, not with --path');
  if (options.name !== undefined && options.peer === undefined) throw wrong('--name goes with --peer');
  const { checkDirectory } = await import('@virt-trust/check/directory-check.ts');
  const report = await checkDirectory({ ...options, directory: options.path, role: options.role, at });
  tell(options, report, [{ title: options.peer ?? options.path, findings: report.findings }]);
}

function versionsOf({ libvirt, qemu }: CheckOptions): Pick<CheckOptions, 'libvirt' | 'qemu'> {
  return {
    ...(libvirt === undefined ? {} : { libvirt: parseVersionWord('--libvirt', libvirt) }),
    ...(qemu === undefined ? {} : { qemu: parseVersionWord('--qemu', qemu) }),
  };
}

function tell(
  { json }: CheckOptions,
  report: { readonly verdict: Verdict; readonly notes: readonly string[] },
  groups: readonly { readonly title: string; readonly findings: readonly CheckFinding[] }[],
): void {
  process.exitCode = VERDICT_EXIT_CODES[report.verdict];
  if (json === true) {
    writeJson(report);
    return;
  }
  for (const { title, findings } of groups) {
    if (findings.length === 0) continue;
    writeLine(title);
    for (const { severity, file, text, remedy } of findings) {
      writeLine(`  ${LABELS[severity]}  ${oneLine(file)}: ${oneLine(text)}`);
      writeLine(`           ${oneLine(remedy)}`);
    }
    writeLine();
  }
  for (const note of report.notes) writeLine(oneLine(note));
  writeLine(`verdict: ${report.verdict}`);
}

const LABELS = { error: 'broken ', warning: 'warning', note: 'note   ' } as const;

/** File names and certificates are foreign: no line of theirs may pass for one of ours. */
function oneLine(text: string): string {
  return text.replace(/[\r\n\t]/g, ' ');
}

function wrong(reason: string): TrustError {
  return new TrustError('check.usage', 'invalid', `cannot check: ${reason}`, {
    hint: 'see virt-trust check --help',
  });
}
