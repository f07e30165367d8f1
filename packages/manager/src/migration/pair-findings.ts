import { formatInstant, type Instant, SECOND } from '@virt-trust/base/instant.ts';
import type { Finding, PreflightReport } from '@virt-trust/contract/model/preflight.ts';
import type { HostRevocations } from '../hosts/ports.ts';
import type { MigrationEnd } from './migration-end.ts';
import type { PreflightQuestion } from './preflight-question.ts';

/** What one agent answered, and how far its clock was ahead of the manager's, in milliseconds. */
export interface SideAnswer {
  readonly report: PreflightReport;
  readonly aheadMs: number;
}

/** The answers of both agents to one question; null where a host has none that answers. */
export interface PairFacts {
  readonly question: Pick<PreflightQuestion, 'from' | 'to' | 'mode'>;
  readonly source: SideAnswer | null;
  readonly destination: SideAnswer | null;
  readonly revocations: Pick<HostRevocations, 'revocationOf'>;
  /** clock.allowed_skew_seconds. */
  readonly allowedSkewSeconds: number;
}

/** Apart by this much clocks are worth a word, although certificates are made so as to bear it. */
const APART_MS = 60 * SECOND;

/** What follows from what both hosts said, held against each other and against what is known here. */
export function pairFindings(facts: PairFacts): Finding[] {
  const { from, to } = facts.question;
  return [
    ...[from, to].flatMap(unseen),
    ...sameHost(facts),
    ...clocks(facts),
    ...revoked(facts),
    ...otherServed(facts),
    ...olderVersions(facts),
  ];
}

/** A side without an agent that takes part says nothing of itself. */
function unseen({ kind, name }: MigrationEnd): Finding[] {
  if (kind === 'managed') return [];
  const observed = kind === 'observed';
  const add = `virt-trust host add ${name} --ssh USER@ADDRESS`;
  return [
    {
      code: 'host.unseen',
      severity: 'note',
      host: name,
      what: `${observed ? `the agent on ${name} only looks` : `${name} has no agent`}: only what can be seen of it from the other host was checked, neither its storage nor its networks nor its clock`,
      fix: `take it under management: ${observed ? add : `virt-trust host remove ${name}, then ${add}`}`,
    },
  ];
}

/** libvirt refuses a migration between hosts of one UUID, which clones of one image have. */
function sameHost({ question, source, destination }: PairFacts): Finding[] {
  const uuid = source?.report.hostUuid ?? '';
  if (uuid === '' || uuid !== destination?.report.hostUuid) return [];
  const { from, to } = question;
  return [
    {
      code: 'host.same_uuid',
      severity: 'error',
      host: null,
      what: `${from.name} and ${to.name} have the same host UUID ${uuid}: libvirt takes them for one host and refuses`,
      fix: `on one of them: set host_uuid = "$(uuidgen)" in /etc/libvirt/libvirtd.conf (virtqemud.conf), then systemctl restart libvirtd`,
    },
  ];
}

function clocks({ question, source, destination, allowedSkewSeconds }: PairFacts): Finding[] {
  const allowed = allowedSkewSeconds * SECOND;
  const ntp = 'timedatectl set-ntp true, and see timedatectl timesync-status';
  const found: Finding[] = [];
  for (const [end, side] of [
    [question.from, source],
    [question.to, destination],
  ] as const) {
    if (side === null || Math.abs(side.aheadMs) <= allowed) continue;
    found.push({
      code: 'clock.wrong',
      severity: 'error',
      host: end.name,
      what: `the clock of ${end.name} is ${apart(side.aheadMs)} the manager's, more than the ${allowedSkewSeconds} s of clock.allowed_skew_seconds: certificates that are good now are not for it`,
      fix: `on ${end.name}: ${ntp}`,
    });
  }
  if (found.length > 0 || source === null || destination === null) return found;
  const difference = destination.aheadMs - source.aheadMs;
  if (Math.abs(difference) <= APART_MS) return [];
  const isTooMuch = Math.abs(difference) > allowed;
  return [
    {
      code: 'clock.apart',
      severity: isTooMuch ? 'error' : 'warning',
      host: null,
      what: `the clock of ${question.to.name} is ${apart(difference)} that of ${question.from.name}${isTooMuch ? ': what one makes is not yet or no more valid for the other' : ''}`,
      fix: `on both: ${ntp}`,
    },
  ];
}

function apart(milliseconds: number): string {
  return `${Math.round(Math.abs(milliseconds) / SECOND)} s ${milliseconds < 0 ? 'behind' : 'ahead of'}`;
}

/** SECURITY: what the manager has revoked counts, whatever CRL a host holds; QEMU's source side looks at none. */
function revoked({ source, destination, revocations }: PairFacts): Finding[] {
  const seen = new Set<string>();
  return handshakesOf(source, destination).flatMap(({ to, service, serialNumber }) => {
    const revocation = serialNumber === null ? null : revocations.revocationOf(serialNumber);
    const key = `${to} ${service}`;
    if (revocation === null || seen.has(key)) return [];
    seen.add(key);
    const at = formatInstant(revocation.at as Instant);
    return [
      {
        code: 'crl.revoked',
        severity: 'unsafe' as const,
        host: to,
        what: `${to} serves for ${service} the certificate ${serialNumber}, which was revoked for ${revocation.reason} at ${at}: whoever has its key may be anybody`,
        fix: `do not migrate there; once ${to} can be trusted again: virt-trust host provision ${to}`,
      },
    ];
  });
}

/** A host that serves something else than it said: an interloper, or a daemon that loaded nothing. */
function otherServed({ question, source, destination }: PairFacts): Finding[] {
  return handshakesOf(source, destination).flatMap(({ to, service, servedPin }) => {
    const end = [question.from, question.to].find(({ name }) => name === to);
    if (end === undefined || end.kind === 'unmanaged' || service === 'peer' || servedPin === null) return [];
    const known = end.host.observed?.credentials.find((one) => one.service === service);
    if (known?.pin == null || known.pin === servedPin || known.phase !== 'settled') return [];
    return [
      {
        code: 'served.other',
        severity: 'warning' as const,
        host: to,
        what: `${to} serves for ${service} another key (${servedPin}) than it was given (${known.pin})`,
        fix: `see what it says of its endpoints: virt-trust host show ${to}; bring it right: virt-trust host provision ${to}`,
      },
    ];
  });
}

function olderVersions({ question, source, destination }: PairFacts): Finding[] {
  const { from, to } = question;
  return (['qemu', 'libvirt'] as const).flatMap((program) => {
    const [ours, theirs] = [source, destination].map(
      (side) => side?.report.capabilities?.[`${program}Version`] ?? null,
    );
    if (ours == null || theirs == null || !isOlder(theirs, ours)) return [];
    const name = program === 'qemu' ? 'QEMU' : 'libvirt';
    return [
      {
        code: 'version.older',
        severity: 'warning' as const,
        host: to.name,
        what: `${name} ${theirs} on ${to.name} is older than ${ours} on ${from.name}: VMs migrate to older ones only where these know every device and feature, and nobody tests that for you`,
        fix: `bring ${to.name} to the version of ${from.name} or later`,
      },
    ];
  });
}

function isOlder(version: string, than: string): boolean {
  const [a, b] = [version, than].map((one) => one.split('.').map(Number));
  for (let index = 0; index < 3; index++) {
    const difference = (a?.[index] ?? 0) - (b?.[index] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}

function handshakesOf(...sides: readonly (SideAnswer | null)[]) {
  return sides.flatMap((side) => side?.report.handshakes ?? []);
}
