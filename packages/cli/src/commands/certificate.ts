import { TrustError } from '@virt-trust/base/error.ts';
import {
  getCertificate,
  issueCertificate,
  listCertificates,
} from '@virt-trust/contract/manager/certificate-operations.ts';
import { getHost } from '@virt-trust/contract/manager/host-operations.ts';
import {
  releaseCertificate,
  renewCertificate,
  revokeCertificate,
} from '@virt-trust/contract/manager/lifecycle-operations.ts';
import type { Certificate } from '@virt-trust/contract/model/certificate.ts';
import { SERVICES, type Service } from '@virt-trust/contract/model/service.ts';
import { Argument, type Command } from 'commander';
import { everyPage } from '../every-page.ts';
import { given } from '../given.ts';
import { readInputFile } from '../input-file.ts';
import { followJob } from '../job-watch.ts';
import { requireKnownHost } from '../known-host.ts';
import { type ManagerClient, managerClient } from '../manager-client.ts';
import { formatTime, writeJson, writeLine, writeTable } from '../output.ts';
import { requireConfirmation } from '../prompt.ts';
import { jsonOption, yesOption } from './option.ts';
import { type RevokeOptions, reasonOption, revokeOrderOf } from './revoke-options.ts';

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
    .addOption(jsonOption())
    .action(issue);
  certificate
    .command('renew')
    .description('Renew a certificate that is served, now: a new key on the host, switched and proven')
    .argument('<serial-or-host>', 'serial number, or the name of a host')
    .addArgument(new Argument('[service]', 'which certificate of the host').choices(SERVICES))
    .addOption(jsonOption())
    .action(renew);
  certificate
    .command('revoke')
    .description('Revoke a certificate: sign the CRL, bring it to every host, cut sessions, prove it')
    .argument('<serial>')
    .addOption(reasonOption())
    .option('--comment <text>', 'why, for the audit log')
    .addOption(yesOption())
    .addOption(jsonOption())
    .action(revoke);
  certificate
    .command('release')
    .description('Take a certificate off hold; any other revocation is for ever')
    .argument('<serial>')
    .addOption(yesOption())
    .addOption(jsonOption())
    .action(release);
}

async function revoke(text: string, options: RevokeOptions): Promise<void> {
  const serial = serialOf(text);
  const end = options.reason === 'certificateHold' ? '' : ' for ever';
  await requireConfirmation(`Revoke certificate ${serial}${end} (${options.reason})?`, options.yes);
  const client = managerClient();
  const job = await client.call(revokeCertificate, { params: { serial }, body: revokeOrderOf(options) });
  await followJob(client, job, options);
}

async function release(text: string, options: { yes?: boolean; json?: boolean }): Promise<void> {
  const serial = serialOf(text);
  await requireConfirmation(`Take certificate ${serial} off hold?`, options.yes);
  const client = managerClient();
  await followJob(client, await client.call(releaseCertificate, { params: { serial } }), options);
}

async function renew(
  target: string,
  service: Service | undefined,
  options: { json?: boolean },
): Promise<void> {
  const client = managerClient();
  const serial = service === undefined ? serialAlone(target) : await servedSerial(client, target, service);
  await followJob(client, await client.call(renewCertificate, { params: { serial } }), options);
}

async function servedSerial(client: ManagerClient, host: string, service: Service): Promise<string> {
  const { observed } = await client.call(getHost, { params: { name: host } });
  const served = observed?.credentials.find((one) => one.service === service && one.identity === 'ours');
  if (served?.serialNumber != null) return served.serialNumber;
  throw new TrustError(
    'certificate.not_served',
    'conflict',
    `cannot renew ${service} of host ${host}: it serves no certificate of virt-trust for it`,
    { hint: `bring the host right first: virt-trust host provision ${host}` },
  );
}

function serialAlone(target: string): string {
  const serial = serialOf(target);
  if (/^(?:[0-9a-f]{2}){1,20}$/.test(serial)) return serial;
  throw new TrustError(
    'input.no_service',
    'invalid',
    `cannot renew ${target}: neither a serial number nor a host with one of its services`,
    {
      hint: `name the service: virt-trust certificate renew ${target} ${SERVICES.join('|')}; all of a host: virt-trust host provision ${target} --renew`,
    },
  );
}

/** Serial numbers are pasted with colons and in capitals too. */
function serialOf(text: string): string {
  return text.toLowerCase().replaceAll(':', '');
}

async function list(options: { host?: string; json?: boolean }): Promise<void> {
  const client = managerClient();
  const items = await everyPage((page) =>
    client.call(listCertificates, {
      query: given({ ...page, host: options.host }),
    }),
  );
  await requireKnownHost(client, options.host, items);
  if (options.json === true) return writeJson(items);
  writeTable(
    ['serial', 'state', 'host', 'service', 'authority', 'expires', 'names'],
    items.map((one) => [
      one.serialNumber,
      stateOf(one),
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
    params: { serial: serialOf(serial) },
  });
  if (options.json === true) return writeJson(one);
  if (options.pem === true) return void process.stdout.write(one.pem ?? '');
  const lines: [string, string][] = [
    ['serial', one.serialNumber],
    ['state', stateOf(one)],
    ['subject', one.subject],
    ['names', [...one.names.dns, ...one.names.addresses].join(', ') || '-'],
    ['authority', `${one.authority} (${one.purpose})`],
    ['profile', one.profile],
    ['host', one.host ?? '-'],
    ['service', one.service ?? '-'],
    ['issued', formatTime(one.issuedAt)],
    ['valid from', formatTime(one.notBefore)],
    ['valid until', formatTime(one.notAfter)],
    ['public key', one.pin],
    ['revoked', revokedText(one.revocation)],
  ];
  if (one.renewal !== null) {
    const { at, explanation, failures, lastFailure } = one.renewal;
    lines.push(['renewal', formatTime(at)], ...explanation.map((line): [string, string] => ['', line]));
    if (failures > 0) lines.push(['last failure', lastFailure ?? '-']);
  } else if (one.host !== null) lines.push(['renewal', `none: host ${one.host} serves it nowhere`]);
  for (const [name, value] of lines) writeLine(`${name.padEnd(12)} ${value}`);
}

function stateOf({ state, revocation }: Certificate): string {
  return revocation === null ? state : 'revoked';
}

function revokedText(revocation: Certificate['revocation']): string {
  if (revocation === null) return 'no';
  const { at, reason, by, comment } = revocation;
  return `${formatTime(at)} for ${reason} by ${by}${comment === '' ? '' : `: ${comment}`}`;
}

async function issue(
  host: string,
  service: Service,
  options: { csr: string; json?: boolean },
): Promise<void> {
  const csr = await readInputFile(options.csr, '--csr');
  const issued = await managerClient().call(issueCertificate, { body: { host, service, csr } });
  if (options.json === true) writeJson(issued);
  else process.stdout.write(issued.pem);
}
