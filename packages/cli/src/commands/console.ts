import { isIP } from 'node:net';
import { openConsole } from '@virt-trust/contract/manager/console-operations.ts';
import type { Console, ConsoleType } from '@virt-trust/contract/model/console.ts';
import { type Command, Option } from 'commander';
import { given } from '../given.ts';
import { managerClient } from '../manager-client.ts';
import { writeJson, writeLine, writeNote } from '../output.ts';
import { findViewer, runViewer } from '../viewer.ts';
import { writeWholeFile } from '../whole-file.ts';
import { jsonOption } from './option.ts';

interface ConsoleOptions {
  host?: string;
  type?: ConsoleType;
  vv?: string;
  ca?: string;
  open?: boolean;
  json?: boolean;
}

const HELP = `
The client verifies the certificate by the name or address that is printed; no host-subject and no exception is needed.
A password is good for one visit, and for console.password_seconds until then.
Examples:
  virt-trust console guest                          where it is, how to verify it, the password
  virt-trust console guest --open                   show it, with remote-viewer
  virt-trust console guest --vv guest.vv            a file for remote-viewer, which removes it once it has read it
  virt-trust console guest --type vnc --ca ca.pem   for vncviewer -X509CA ca.pem
  virt-trust setting set console.listen password    let displays leave loopback, with TLS and such passwords
More: docs/consoles.md`;

export function addConsoleCommand(program: Command): void {
  program
    .command('console')
    .description("Reach a VM's display over TLS, verified by name")
    .argument('<vm>')
    .option('--host <host>', 'where it runs, if several hosts have one of that name')
    .addOption(new Option('--type <type>', 'which of its displays').choices(['vnc', 'spice']))
    .option('--vv <file>', 'write a connection file of remote-viewer, which you alone can read')
    .option('--ca <file>', 'write the certificates of the console authority, for clients that take a file')
    .option('--open', 'show it with remote-viewer')
    .addOption(jsonOption())
    .addHelpText('after', HELP)
    .action(showConsole);
}

async function showConsole(vm: string, options: ConsoleOptions): Promise<void> {
  // Before anything is asked, which makes a password.
  const viewer = options.open === true ? await findViewer() : undefined;
  const body = given({ vm, host: options.host, type: options.type });
  const console = await managerClient().call(openConsole, { body });
  if (options.ca !== undefined) await writeWholeFile(options.ca, console.ca, 0o644);
  if (options.vv !== undefined) await writeWholeFile(options.vv, console.vv, 0o600);
  if (options.json === true) writeJson(console);
  else writeConsole(console, options);
  if (viewer !== undefined) await runViewer(viewer, console.vv);
}

function writeConsole(console: Console, options: ConsoleOptions): void {
  const { vm, host, type, address, tlsPort, authentication, password, hostSubject } = console;
  const target = isIP(address) === 6 ? `[${address}]` : address;
  const lines: [string, string][] = [
    ['vm', `${vm} on ${host}`],
    ['display', `${type}, TLS`],
    ['address', `${target} port ${tlsPort}${console.reachable ? '' : " (the host's loopback alone)"}`],
    ['verify', hostSubject === null ? `the name ${address}` : `the subject ${hostSubject}`],
    ['ca', options.ca ?? CA_OF[type]],
    ['client', authentication === 'none' ? 'asks nobody who he is' : `shows a ${WORDS[authentication]}`],
  ];
  if (password !== null) {
    const until = new Date(password.expiresAt).toISOString().slice(11, 19);
    // SECURITY: what is no terminal may be a log.
    const shown =
      process.stdout.isTTY === true
        ? password.password
        : 'not shown, since this is no terminal: --vv FILE or --json';
    lines.push(['password', `${shown} (for one visit that begins before ${until}Z)`]);
  }
  if (options.vv !== undefined) lines.push(['file', `${options.vv}: remote-viewer ${options.vv}`]);
  for (const [name, value] of lines) writeLine(`${name.padEnd(9)} ${value}`);
  for (const hint of console.hint.split('\n').filter(Boolean)) writeNote(`note: ${hint}`);
}

/** Where the clients of a type have the authority's certificates from. */
const CA_OF: Readonly<Record<ConsoleType, string>> = {
  spice: 'in the connection file (--vv), or in a file: --ca FILE',
  vnc: 'remote-viewer and virt-manager read it from ~/.pki/CA/cacert.pem or /etc/pki/CA/cacert.pem, vncviewer from -X509CA: --ca FILE writes it',
};

const WORDS: Readonly<Record<Exclude<Console['authentication'], 'none'>, string>> = {
  password: 'password',
  certificate: 'client certificate',
  'certificate-and-password': 'client certificate and a password',
};
