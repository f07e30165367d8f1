import type { Clock } from '@virt-trust/base/clock.ts';
import { isTrustError, type TrustError } from '@virt-trust/base/error.ts';
import type { Finding } from '@virt-trust/libvirt/certificate-use.ts';
import type { Checker } from '@virt-trust/libvirt/checker.ts';
import { LIBVIRT_TCP_PORT } from '@virt-trust/libvirt/layout.ts';
import { type JudgedSet, judgeOwnSet } from '@virt-trust/libvirt/own-set.ts';
import { encodeCertificatesPem } from '@virt-trust/pki/certificate.ts';
import type { ClientFiles } from './client-files.ts';
import { causesOfRefusal, reasonOf } from './client-refusal.ts';
import { findPlainLibvirt } from './plain-libvirt.ts';
import { type LibvirtEvidence, probeLibvirt } from './probe-libvirt.ts';
import { HINTS, type ProbeReason, type ProbeReport } from './probe-report.ts';
import { probeSpice, type SpiceEvidence } from './probe-spice.ts';
import type { ProbeUri } from './probe-uri.ts';
import { probeVnc, type VncEvidence } from './probe-vnc.ts';
import { describeTlsAlert } from './tls-alert.ts';
import type { PresentedByServer, TlsProbeOptions } from './tls-handshake.ts';

export interface ProbeOrder {
  readonly uri: ProbeUri;
  readonly files: ClientFiles;
  /** In place of the URI's host, as the name that the certificate must have. */
  readonly serverName?: string | undefined;
  readonly checker: Checker;
  readonly clock: Clock;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

export type ProbeEvidence = LibvirtEvidence | VncEvidence | SpiceEvidence;

type Verdict = Pick<ProbeReport, 'outcome' | 'side' | 'code' | 'detail'> & {
  readonly reason: ProbeReason;
  readonly causes?: ProbeReport['causes'];
};

/**
 * Makes the connection that the URI's own client would make, with the files it would use, up to where both sides have
 * taken each other; says who refused whom, and why.
 */
export async function diagnose(
  order: ProbeOrder,
): Promise<{ readonly report: ProbeReport; readonly evidence: ProbeEvidence | undefined }> {
  const { uri, files, checker, clock } = order;
  const own = judgeOwnSet(
    { ...statesOf(files), dhParameters: { kind: 'missing' } },
    'client',
    // Other clients check nothing of their own files; what GnuTLS refuses to load it refuses them too.
    { program: 'libvirt', version: checker.program === 'libvirt' ? checker.version : '9.0.0' },
    clock.now(),
  );
  const notes = notesOf(uri, own);
  const flaw = own.findings.find((finding) => finding.severity === 'error' && counts(finding, uri));
  if (flaw !== undefined) {
    return { report: reportOf(ownFlaw(flaw, files), undefined, notes), evidence: undefined };
  }
  let seen: PresentedByServer | undefined;
  const identity = identityOf(files);
  const options = optionsOf(order, own, identity, (presented) => {
    seen = presented;
  });
  try {
    const evidence = await connect(uri, options, checker);
    const { protocol, cipher, group } = evidence;
    const report: ProbeReport = {
      outcome: 'accepted',
      side: null,
      reason: null,
      code: null,
      detail: 'both sides took each other',
      hint: null,
      causes: [],
      served: evidence.servedCertificate,
      notes,
      protocol,
      cipher,
      group,
    };
    return { report, evidence };
  } catch (error) {
    if (!isTrustError(error) || !error.code.startsWith('probe.')) throw error;
    const shown = identity === undefined ? undefined : own;
    const verdict = await verdictOf(error, order, shown);
    return { report: reportOf(verdict, seen, notes), evidence: undefined };
  }
}

function statesOf({ ca, crl, certificate, key }: ClientFiles) {
  return { ca: ca.state, crl: crl.state, certificate: certificate.state, key: key.state };
}

/** Whether the URI's client looks at it before it dials. */
function counts({ code, part }: Finding, uri: ProbeUri): boolean {
  const loading = /^(?:files|key|crl)\./.test(code);
  if (uri.kind === 'libvirt') return uri.sanity || loading;
  return loading && (uri.kind === 'vnc' || part === 'ca');
}

function notesOf(uri: ProbeUri, own: JudgedSet): string[] {
  const notes = own.findings
    .filter(({ severity }) => severity === 'warning')
    .map(({ message }) => `the client's own files: ${message}`);
  if (uri.kind !== 'libvirt') return notes;
  if (!uri.verify) notes.push('no_verify: what the server shows was not looked at, and anybody could answer');
  if (uri.tlsPriority !== undefined)
    notes.push(
      `tls_priority=${uri.tlsPriority} is for GnuTLS: this probe offers TLS 1.2 and 1.3 whatever it says`,
    );
  return notes;
}

function identityOf({ certificate, key }: ClientFiles): TlsProbeOptions['client'] {
  if (certificate.state.kind !== 'text' || key.state.kind !== 'text') return undefined;
  return { certificatePem: certificate.state.text, privateKeyPem: key.state.text };
}

function optionsOf(
  { uri, serverName, clock, timeoutMs, signal, files }: ProbeOrder,
  own: JudgedSet,
  client: TlsProbeOptions['client'],
  onPresented: (presented: PresentedByServer) => void,
) {
  return {
    host: uri.host,
    port: uri.port,
    timeoutMs,
    signal,
    serverName: serverName ?? uri.host,
    trust: encodeCertificatesPem(own.authorities),
    crls: files.crl.state.kind === 'text' ? files.crl.state.text : undefined,
    verify: uri.kind === 'libvirt' ? uri.verify : true,
    client,
    clock,
    onPresented,
  };
}

function connect(
  uri: ProbeUri,
  options: ReturnType<typeof optionsOf>,
  checker: Checker,
): Promise<ProbeEvidence> {
  switch (uri.kind) {
    case 'libvirt':
      return probeLibvirt({ ...options, checker });
    case 'vnc':
      return probeVnc(options);
    case 'spice':
      return probeSpice({ ...options, client: undefined, crls: undefined, hostSubject: uri.hostSubject });
  }
}

function reportOf(
  verdict: Verdict,
  seen: PresentedByServer | undefined,
  notes: readonly string[],
): ProbeReport {
  const { served, ...session } = seen ?? {};
  return {
    ...verdict,
    hint: HINTS[verdict.reason],
    causes: verdict.causes ?? [],
    served: served ?? null,
    notes,
    ...session,
  };
}

const OWN_PARTS: Readonly<Record<string, ProbeReason>> = { ca: 'own_ca', crl: 'own_crl', key: 'own_key' };

/** The client's own files keep it from dialling at all. */
function ownFlaw({ code, part, message }: Finding, files: ClientFiles): Verdict {
  const file = part === 'dh-params' ? undefined : files[part].path;
  const detail = `${message}${file === undefined ? '' : ` (${file})`}`;
  const refused = { outcome: 'refused', side: 'client', code, detail } as const;
  if (!code.startsWith('certificate.') && !code.startsWith('chain.'))
    return { ...refused, reason: OWN_PARTS[part] ?? 'own_files' };
  const reason = reasonOf(code);
  return {
    ...refused,
    reason: reason === 'date' || reason === 'wrong_purpose' ? `own_${reason}` : 'own_chain',
  };
}

async function verdictOf(error: TrustError, order: ProbeOrder, own: JudgedSet | undefined): Promise<Verdict> {
  const cause = isTrustError(error.cause) ? error.cause : undefined;
  const detail = error.message.replace(
    /^cannot probe .*? port \d+: (?:cannot trust the (?:peer|chain): )?/,
    '',
  );
  const code = cause?.code ?? error.code;
  const by = (side: 'client' | 'server', reason: ProbeReason): Verdict => {
    return { outcome: 'refused', side, reason, code, detail };
  };
  switch (error.code) {
    case 'probe.connect':
      return await noConnection(error, order, detail);
    case 'probe.vencrypt':
      if (cause?.code === 'vnc.no_tls' || cause?.code === 'vnc.no_certificate')
        return by('client', 'no_tls_offered');
      if (cause?.code === 'vnc.malformed') return by('client', 'wrong_protocol');
      return by('server', 'server_closed');
    case 'probe.chain':
      if (cause === undefined) return by('client', 'no_server_certificate');
      if (cause.code === 'peer.certificate_missing') return by('client', 'no_server_certificate');
      return by('client', reasonOf(cause.code));
    case 'probe.name':
      return by('client', 'name');
    case 'probe.handshake':
      return await noHandshake(error, order, own, detail);
    case 'probe.confirmation':
      if (cause?.code === 'spice.malformed') return by('client', 'wrong_protocol');
      if (cause?.code === 'spice.refused') return by('server', 'server_error');
      return refusedByServer(error, order, own, detail);
    default:
      return by('server', 'server_error');
  }
}

/** For a look at another port, on which nothing hangs. */
const ELSEWHERE_MS = 5000;

async function noConnection(
  error: TrustError,
  { uri, signal }: ProbeOrder,
  detail: string,
): Promise<Verdict> {
  const reason = unreachable(error);
  const plain =
    uri.kind === 'libvirt' &&
    reason === 'not_listening' &&
    (await findPlainLibvirt({ host: uri.host, port: LIBVIRT_TCP_PORT, timeoutMs: ELSEWHERE_MS, signal }));
  const more = plain ? `; without TLS libvirt answers there on port ${LIBVIRT_TCP_PORT}` : '';
  return { outcome: 'unreachable', side: null, reason, code: error.code, detail: `${detail}${more}` };
}

function unreachable(error: TrustError): ProbeReason {
  const { code } = (error.cause ?? {}) as { readonly code?: unknown };
  switch (code) {
    case 'ECONNREFUSED':
      return 'not_listening';
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return 'host_unknown';
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return 'no_route';
    default:
      return 'no_answer';
  }
}

async function noHandshake(
  error: TrustError,
  order: ProbeOrder,
  own: JudgedSet | undefined,
  detail: string,
): Promise<Verdict> {
  const { uri, timeoutMs, signal } = order;
  const alert = describeTlsAlert(error.cause);
  if (alert.kind === 'client-refused') return refusedByServer(error, order, own, detail, alert.reason);
  const refused = { outcome: 'refused', code: error.code, detail } as const;
  // To a ClientHello a libvirt without TLS is not silent: it takes it for a packet that is too long, and closes.
  const mayBePlain = uri.kind === 'libvirt' && error.context?.['expired'] !== true;
  if (mayBePlain && (await findPlainLibvirt({ host: uri.host, port: uri.port, timeoutMs, signal }))) {
    const plain = 'libvirt answers there without TLS';
    return { ...refused, side: 'client', reason: 'plain_tcp', detail: plain };
  }
  return alert.kind === 'not-tls'
    ? {
        ...refused,
        side: 'client',
        reason: 'not_tls',
        detail: `what listens there does not speak TLS: ${withoutOpenssl(detail)}`,
      }
    : { ...refused, side: 'server', reason: 'handshake' };
}

/** OpenSSL's own line of an error, without thread, code and the place in its source. */
function withoutOpenssl(detail: string): string {
  return detail.replace(/[0-9A-F]+:error:[0-9A-F]+:[^:]*:[^:]*:([^:]*):[^:]*:\d+:.*$/s, '$1');
}

function refusedByServer(
  error: TrustError,
  { uri, checker, clock }: ProbeOrder,
  own: JudgedSet | undefined,
  detail: string,
  told?: ProbeReason,
): Verdict {
  const refused = { outcome: 'refused', side: 'server', code: error.code } as const;
  if (uri.kind === 'spice') return { ...refused, reason: 'server_closed', detail };
  const causes = causesOfRefusal({ own, checker, at: clock.now() });
  const seen = causes.find(({ standing }) => standing === 'seen');
  const reason = told ?? (seen === undefined ? 'client_refused' : (seen.reason as ProbeReason));
  return { ...refused, reason, detail: seen === undefined ? detail : `${detail}: ${seen.detail}`, causes };
}
