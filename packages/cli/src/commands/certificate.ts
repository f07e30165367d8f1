import {
  getCertificate,
  issueCertificate,
  listCertificates,
} from '@virt-trust/contract/manager/operations.ts';
import { SERVICES, type Service } from '@virt-trust/contract/model/service.ts';
import { Argument, type Command } from 'commander';
import { everyPage } from '../every-page.ts';
import { given } from '../given.ts';
import { readInputFile } from '../input-file.ts';
import { managerClient } from '../manager-client.ts';
import { formatTime, writeJson, writeLine, writeTable } from '../output.ts';
import { jsonOption } from './option.ts';

export function addCertificateCommands(program: Command): void {
  const certificate = program.command('certificate').description('The certificates that were issued');
  certificate
    .command('list')
    .description('All certificates, newest first')
    .option('--host <name>', 'of one host')
    .addOption(jsonOption())
    .action(list);
  certificate
    .command('show')
    .description('One certificate')
    .argument('<serial>')
    .option('--pem', 'the certificate itself')
    .addOption(jsonOption())
    .action(show);
  certificate
    .command('issue')
    .description("A certificate for a request that a host's key signed")
    .argument('<host>')
    .addArgument(new Argument('<service>').choices(SERVICES))
    .requiredOption('--csr <file>', 'PKCS #10 request in PEM')
    .action(issue);
}

async function list(options: { host?: string; json?: boolean }): Promise<void> {
  const client = managerClient();
  const items = await everyPage((page) =>
    client.call(listCertificates, {
      query: given({ ...page, host: options.host }),
    }),
  );
  if (options.json === true) return writeJson(items);
  writeTable(
    ['serial', 'state', 'host', 'service', 'authority', 'expires', 'names'],
    items.map((one) => [
      one.serialNumber,
      one.state,
      one.host ?? '-',
      one.service ?? '-',
      one.authority,
      formatTime(one.notAfter),
      [...one.names.dns, ...one.names.addresses].join(' ') || '-',
    ]),
  );
}

async function show(serial: string, options: { pem?: boolean; json?: boolean }): Promise<void> {
  const one = await managerClient().call(getCertificate, {
    params: { serial: serial.toLowerCase().replaceAll(':', '') },
  });
  if (options.json === true) return writeJson(one);
  if (options.pem === true) return void process.stdout.write(one.pem ?? '');
  const lines: [string, string][] = [
    ['serial', one.serialNumber],
    ['state', one.state],
    ['subject', one.subject],
    ['names', [...one.names.dns, ...one.names.addresses].join(', ') || '-'],
    ['authority', `${one.authority} (${one.purpose})`],
    ['profile', one.profile],
    ['host', one.host ?? '-'],
    ['service', one.service ?? '-'],
    ['valid from', formatTime(one.notBefore)],
    ['valid until', formatTime(one.notAfter)],
    ['public key', one.pin],
  ];
  for (const [name, value] of lines) writeLine(`${name.padEnd(12)} ${value}`);
}

async function issue(host: string, service: Service, options: { csr: string }): Promise<void> {
  const csr = await readInputFile(options.csr, '--csr');
  const { pem } = await managerClient().call(issueCertificate, { body: { host, service, csr } });
  process.stdout.write(pem);
}
