import { stat } from 'node:fs/promises';
import { isTrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import { adviseOnCrl, adviseOnSet } from '@virt-trust/libvirt/advice.ts';
import type { Finding, SetPart, TlsRole } from '@virt-trust/libvirt/certificate-use.ts';
import { type Checker, rulesOf } from '@virt-trust/libvirt/checker.ts';
import {
  type GnutlsCertificate,
  readGnutlsCertificate,
  readGnutlsCertificates,
} from '@virt-trust/libvirt/gnutls/certificate.ts';
import { readGnutlsCrls } from '@virt-trust/libvirt/gnutls/crl.ts';
import { judgeOwnSet } from '@virt-trust/libvirt/own-set.ts';
import { verifyPeer } from '@virt-trust/libvirt/session.ts';
import {
  type DirectoryNames,
  type Layout,
  layoutsOf,
  NUMBERED_IDENTITIES,
  namesIn,
  pathsIn,
  programOf,
  type SetPaths,
} from './layout.ts';
import { mayEnter, type ReadingUser, readFileState } from './reader.ts';
import { remedyFor } from './remedies.ts';
import { type CheckFinding, type Verdict, verdictOf } from './report.ts';

/** What `checkPath` looks at, and as whom. */
export interface PathQuestion {
  readonly directory: string;
  /** The end that the directory is for. */
  readonly role: TlsRole;
  readonly at: Instant;
  readonly libvirt: string;
  readonly qemu: string;
  /** The program of an empty directory; libvirt where left out. */
  readonly program?: Checker['program'] | undefined;
  /** Who reads the files of QEMU's layout where that is not this process. */
  readonly qemuUser?: ReadingUser | undefined;
  /** The other end's certificate file, which is then judged alone. */
  readonly peer?: string | undefined;
  /** The name or address by which the peer is reached. */
  readonly name?: string | undefined;
}

/** A directory, or a peer, as libvirt or QEMU judge it. */
export interface PathReport {
  readonly verdict: Verdict;
  /** Whose rules were applied. */
  readonly judgedBy: readonly Checker[];
  readonly findings: readonly CheckFinding[];
}

/** Judges one directory, or a peer against it, and looks at nothing else of the machine. */
export async function checkPath(asked: PathQuestion): Promise<PathReport> {
  const question = { ...asked, at: wholeSeconds(asked.at) };
  const inside = await namesIn(question.directory);
  const found = inside.kind === 'names' ? layoutsOf(inside.names) : [];
  const fallback: Layout = question.program === 'qemu' ? 'qemu' : 'pkipath';
  const layouts = found.length > 0 ? found : [fallback];
  const programs = [...new Set(layouts.map(programOf))];
  const judgedBy = programs.map((program): Checker => ({ program, version: question[program] }));
  const findings: CheckFinding[] = [];
  if (inside.kind !== 'names') findings.push(notLookedInto(inside.kind, question));
  else {
    for (const layout of layouts) {
      const checker = { program: programOf(layout), version: question[programOf(layout)] };
      if (layout === 'qemu') findings.push(...(await judgeDirectoryMode(question)));
      findings.push(
        ...(question.peer === undefined
          ? await judgeDirectory(question, layout, checker)
          : await judgePeer(question, question.peer, layout, checker)),
      );
    }
  }
  return { verdict: verdictOf(findings), judgedBy, findings };
}

const NOT_LOOKED_INTO = {
  missing: ['directory.missing', 'there is no such directory'],
  'no-directory': ['directory.missing', 'it is a file, not a directory'],
  closed: ['directory.unreadable', 'its files cannot be reached: permission denied'],
} as const;

function notLookedInto(
  kind: Exclude<DirectoryNames['kind'], 'names'>,
  { directory: file, role }: PathQuestion,
): CheckFinding {
  const [code, text] = NOT_LOOKED_INTO[kind];
  return { severity: 'error', code, file, text, remedy: remedyFor(code, { file, role }) };
}

/** QEMU's user has to pass through the directory; those around it are not looked at. */
async function judgeDirectoryMode({ directory, qemuUser, role }: PathQuestion): Promise<CheckFinding[]> {
  if (qemuUser === undefined) return [];
  const found = await stat(directory).catch(() => undefined);
  if (found === undefined || mayEnter(found, qemuUser)) return [];
  const mode = (found.mode & 0o777).toString(8).padStart(4, '0');
  const severity = qemuUser.groupsUnknown === true ? 'warning' : 'error';
  const message = `${qemuUser.name} may not pass through the directory (mode ${mode}, owner ${found.uid}:${found.gid})`;
  return [
    {
      severity,
      code: 'directory.unreadable',
      file: directory,
      text: message,
      remedy: remedyFor('directory.unreadable', { file: directory, role }),
    },
  ];
}

async function judgeDirectory(
  question: PathQuestion,
  layout: Layout,
  checker: Checker,
): Promise<CheckFinding[]> {
  const { directory, role } = question;
  const numbers = await identitiesIn(question, layout, checker);
  const findings: CheckFinding[] = [];
  for (const number of numbers) {
    const paths = pathsIn(directory, layout, role, number);
    findings.push(...(await judgeSet(paths, question, checker)));
  }
  // What is about the CA file or the CRL is the same for each identity.
  return findings.filter(
    (finding, index) =>
      findings.findIndex(
        ({ code, file, text }) => code === finding.code && file === finding.file && text === finding.text,
      ) === index,
  );
}

/** The plain identity, and those with a number that this version reads: up to the first gap. */
async function identitiesIn(
  { directory, role }: PathQuestion,
  layout: Layout,
  checker: Checker,
): Promise<(number | undefined)[]> {
  const identities: (number | undefined)[] = [];
  if (rulesOf(checker).numberedIdentities) {
    for (let number = 0; number < NUMBERED_IDENTITIES; number++) {
      const { certificate, key } = pathsIn(directory, layout, role, number);
      const states = await Promise.all([certificate, key].map((path) => readFileState(path)));
      if (states.every(({ kind }) => kind === 'missing')) break;
      identities.push(number);
    }
  }
  const plain = pathsIn(directory, layout, role);
  const [certificate, key] = await Promise.all([readFileState(plain.certificate), readFileState(plain.key)]);
  const none = certificate.kind === 'missing' && key.kind === 'missing';
  // QEMU can do with a numbered identity alone (qcrypto_tls_creds_x509_load_identities).
  if (!none || identities.length === 0 || checker.program === 'libvirt') identities.unshift(undefined);
  return identities;
}

/** Judges the files of one side, wherever they are. */
export async function judgeSet(
  paths: SetPaths,
  question: Pick<PathQuestion, 'role' | 'at' | 'qemuUser'>,
  checker: Checker,
): Promise<CheckFinding[]> {
  const { role, at } = question;
  const user = checker.program === 'qemu' ? question.qemuUser : undefined;
  const [ca, crl, certificate, key, dhParameters] = await Promise.all([
    readFileState(paths.ca, user),
    readFileState(paths.crl, user),
    readFileState(paths.certificate, user),
    readFileState(paths.key, user),
    paths.dhParameters === undefined
      ? ({ kind: 'missing' } as const)
      : readFileState(paths.dhParameters, user),
  ]);
  const judged = judgeOwnSet({ ca, crl, certificate, key, dhParameters }, role, checker, at);
  const files: Readonly<Record<SetPart, string>> = {
    ca: paths.ca,
    crl: paths.crl,
    certificate: paths.certificate,
    key: paths.key,
    'dh-params': paths.dhParameters ?? '',
  };
  const refused = judged.findings.some(({ severity }) => severity === 'error');
  const findings = refused
    ? judged.findings
    : [...judged.findings, ...adviseOnSet(judged, role, checker, at)];
  const whose = checker.program === 'libvirt' ? 'libvirt' : 'QEMU';
  const fails =
    role === 'server'
      ? `${whose} refuses to start or reload a server with it`
      : `${whose} refuses to connect with it`;
  return findings.map((finding) => {
    const message = finding.severity === 'error' ? `${finding.message}: ${fails}` : finding.message;
    return toCheck({ ...finding, message }, files[finding.part], role);
  });
}

/** The handshake's check of the peer's certificate; the directory needs nothing but the CA and, if there is one, a CRL. */
async function judgePeer(
  question: PathQuestion,
  peer: string,
  layout: Layout,
  checker: Checker,
): Promise<CheckFinding[]> {
  const { directory, role, at, name } = question;
  const { ca, crl } = pathsIn(directory, layout, role);
  const peerRole: TlsRole = role === 'server' ? 'client' : 'server';
  const user = checker.program === 'qemu' ? question.qemuUser : undefined;
  const findings: CheckFinding[] = [];
  const add = (finding: Finding, file: string) => findings.push(toCheck(finding, file, peerRole));
  const read = async <T>(
    path: string,
    part: SetPart,
    as: ReadingUser | undefined,
    parse: (text: string) => T,
  ) => {
    const state = await readFileState(path, as);
    try {
      if (state.kind === 'text') return parse(state.text);
      const missing = state.kind === 'missing';
      if (missing && part === 'crl') return undefined;
      const message = missing ? 'there is no such file' : `the file cannot be read: ${state.reason}`;
      add({ severity: 'error', code: missing ? 'files.missing' : 'files.unreadable', message, part }, path);
    } catch (error) {
      if (!isTrustError(error)) throw error;
      add({ severity: 'error', code: 'files.malformed', message: error.message, part }, path);
    }
    return undefined;
  };
  const readsCrl = role === 'server' || rulesOf(checker).clientReadsCrl;
  const [trusted, crls, presented] = await Promise.all([
    read(ca, 'ca', user, (text) => readGnutlsCertificates(text, Number.POSITIVE_INFINITY)),
    readsCrl ? read(crl, 'crl', user, readGnutlsCrls) : undefined,
    read(peer, 'certificate', undefined, readPresented),
  ]);
  if (findings.length > 0 || trusted === undefined || presented === undefined) return findings;
  try {
    const hostName = role === 'client' ? name : undefined;
    verifyPeer({ role: peerRole, presented, trusted, crls: crls ?? [], at, checker, hostName });
  } catch (error) {
    if (!isTrustError(error)) throw error;
    const message = error.message.replace(/^cannot trust the peer: /, '');
    add({ severity: 'error', code: error.code, message, part: 'certificate' }, peer);
  }
  for (const each of crls ?? []) for (const finding of adviseOnCrl(each, trusted, at)) add(finding, crl);
  return findings;
}

/** What a peer sends: its certificate file, or one certificate in DER. */
function readPresented(text: string): GnutlsCertificate[] {
  if (text.includes('-----BEGIN ')) return readGnutlsCertificates(text, Number.POSITIVE_INFINITY);
  return [readGnutlsCertificate(Buffer.from(text, 'latin1'))];
}

function toCheck(finding: Finding, file: string, role: TlsRole): CheckFinding {
  const { code, severity, message } = finding;
  return { code, severity, file, text: message, remedy: remedyFor(code, { file, role }) };
}

/** libvirt and QEMU know no parts of a second: what ends at a second is valid until the next. */
export function wholeSeconds(at: Instant): Instant {
  return (at - (((at % 1000) + 1000) % 1000)) as Instant;
}
