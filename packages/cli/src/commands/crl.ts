import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { systemClock } from '@virt-trust/base/clock.ts';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { listCrls, refreshCrls } from '@virt-trust/contract/manager/lifecycle-operations.ts';
import type { ResultOf } from '@virt-trust/contract/operation.ts';
import { parseCertificates } from '@virt-trust/pki/certificate.ts';
import { formatCrlNumber } from '@virt-trust/pki/crl-number.ts';
import { formatName } from '@virt-trust/pki/name.ts';
import type { Command } from 'commander';
import { crlPath, fetchCrl, readCrlFile } from '../crl-file.ts';
import { planCrlFile } from '../crl-install.ts';
import { readInputFile } from '../input-file.ts';
import { followJob } from '../job-watch.ts';
import { managerClient } from '../manager-client.ts';
import { formatTime, writeJson, writeLine, writeNote, writeTable } from '../output.ts';
import { writeWholeFile } from '../whole-file.ts';
import { jsonOption } from './option.ts';

type Crl = ResultOf<typeof listCrls>['items'][number];
type Held = NonNullable<ResultOf<typeof listCrls>['held']>;

export function addCrlCommands(program: Command): void {
  const crl = program.command('crl').description('The lists of revoked certificates, one for each authority');
  crl
    .command('list')
    .description('The CRL of each authority, and which hosts have it')
    .addOption(jsonOption())
    .action(list);
  crl
    .command('show')
    .description('The CRL of one authority')
    .argument('<authority>')
    .option('--pem', 'the CRL itself')
    .addOption(jsonOption())
    .action(show);
  crl
    .command('refresh')
    .description('Sign the CRLs anew, bring them to every host and prove them there')
    .addOption(jsonOption())
    .action(async (options: { json?: boolean }) => {
      const client = managerClient();
      await followJob(client, await client.call(refreshCrls, {}), options);
    });
  crl
    .command('install')
    .description(
      "Verify a CRL and put it where libvirt's client reads it, on a machine without an agent; for a timer",
    )
    .option('--url <url>', 'fetch it from there')
    .option('--file <file>', 'read it from there, PEM or DER')
    .requiredOption('--ca <file>', 'the authority, as virt-trust authority export prints it')
    .option('--user', 'below ~/.pki, also as root')
    .addOption(jsonOption())
    .action(install);
}

async function list(options: { json?: boolean }): Promise<void> {
  const { items, held } = await managerClient().call(listCrls, {});
  if (held !== null) writeNote(wordsOf(held));
  if (options.json === true) return writeJson(items.map(({ pem: _, ...rest }) => rest));
  writeTable(
    ['authority', 'number', 'issued', 'next update', 'refresh', 'entries', 'hosts', 'behind'],
    items.map((one) => [
      one.authority,
      one.number,
      formatTime(one.thisUpdate),
      formatTime(one.nextUpdate),
      formatTime(one.refreshAt),
      String(one.entries),
      `${one.hosts.current}/${one.hosts.current + one.hosts.behind.length}`,
      one.hosts.behind.slice(0, 8).join(' ') || '-',
    ]),
  );
}

async function show(authority: string, options: { pem?: boolean; json?: boolean }): Promise<void> {
  const { items, held } = await managerClient().call(listCrls, {});
  if (held !== null) writeNote(wordsOf(held));
  const one = items.find((candidate) => candidate.authority === authority);
  if (one === undefined) {
    throw new TrustError('authority.unknown', 'not-found', `cannot find an authority named ${authority}`, {
      hint: 'see them with: virt-trust authority list',
    });
  }
  if (options.json === true) return writeJson(one);
  if (options.pem === true) return void process.stdout.write(pemOf(one, held));
  const lines: [string, string][] = [
    ['authority', `${one.authority} (${one.purpose})`],
    ['number', one.number],
    ['issued', formatTime(one.thisUpdate)],
    ['next update', formatTime(one.nextUpdate)],
    ['refresh', formatTime(one.refreshAt)],
    [
      'entries',
      one.entries === one.hostEntries ? String(one.entries) : `${one.entries}, hosts get ${one.hostEntries}`,
    ],
    ['hosts', `${one.hosts.current} have it`],
    ['behind', one.hosts.behind.join(', ') || 'none'],
  ];
  for (const [name, value] of lines) writeLine(`${name.padEnd(12)} ${value}`);
}

function wordsOf({ heard, hosts }: Held): string {
  return `this manager was restored, and holds its CRLs back: ${heard} of ${hosts} hosts were asked what was revoked since the backup`;
}

function pemOf({ authority, pem }: Crl, held: Held | null): string {
  if (pem !== null) return pem;
  if (held !== null) {
    throw new TrustError(
      'crl.held',
      'unavailable',
      `cannot print the CRL of ${authority}: ${wordsOf(held)}`,
      {
        hint: 'bring the hosts up (virt-trust host list), or go on without those that are away: virt-trust crl refresh',
      },
    );
  }
  throw new TrustError(
    'crl.too_long',
    'failed',
    `cannot print the CRL of ${authority}: it is too long for that`,
    {
      hint: `it is published: GET /crl/${authority}.crl`,
    },
  );
}

async function install(options: {
  url?: string;
  file?: string;
  ca: string;
  user?: boolean;
  json?: boolean;
}): Promise<void> {
  const fetched = await sourceOf(options);
  const authorities = parseCertificates(await readInputFile(options.ca, '--ca'));
  const isRoot = process.getuid?.() === 0;
  const path = crlPath(isRoot && options.user !== true ? 'system' : 'user', homedir());
  const present = await readCrlFile(path);
  const { crl, text, others } = planCrlFile({ fetched, authorities, present, path, now: systemClock.now() });
  if (text !== null) await writeWholeFile(path, text, 0o644, 0o755);
  const { crlNumber } = crl.extensions;
  const facts = {
    path,
    changed: text !== null,
    issuer: formatName(crl.issuer),
    number: crlNumber === undefined ? null : formatCrlNumber(crlNumber),
    thisUpdate: crl.thisUpdate,
    nextUpdate: crl.nextUpdate ?? null,
    entries: crl.entries.count,
    others,
  };
  if (options.json === true) return writeJson(facts);
  writeLine(
    `${path} ${facts.changed ? 'has now' : 'had already'} the CRL of ${facts.issuer}, number ${facts.number ?? '-'}, ${facts.entries} ${facts.entries === 1 ? 'entry' : 'entries'}, until ${formatTime(facts.nextUpdate)}`,
  );
}

async function sourceOf({ url, file }: { url?: string; file?: string }): Promise<Uint8Array> {
  if (url !== undefined && file === undefined) return fetchCrl(url);
  if (file === undefined || url !== undefined) {
    throw new TrustError('cli.crl_source', 'invalid', 'cannot install a CRL: give either --url or --file');
  }
  try {
    return await readFile(file);
  } catch (cause) {
    throw new TrustError(
      'cli.file_unreadable',
      'invalid',
      `cannot read the file of --file: ${describeError(cause)}`,
      { cause },
    );
  }
}
