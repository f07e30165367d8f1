import type { Clock } from '@virt-trust/base/clock.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import { isTriedVersion } from '@virt-trust/libvirt/checker.ts';
import { checkClientFiles } from './client-section.ts';
import { type HostFacts, readHostFacts } from './host-facts.ts';
import { checkLibvirtFiles } from './libvirt-section.ts';
import { readNetwork } from './network.ts';
import { checkQemuDirectories } from './qemu-section.ts';
import { type CheckFinding, type FindingGroup, type Verdict, verdictOf } from './report.ts';
import { checkServedByVms } from './vm-section.ts';

/** Everything that was found on this host. */
export interface HostReport {
  readonly verdict: Verdict;
  readonly findings: readonly CheckFinding[];
  readonly groups: readonly FindingGroup[];
  /** What was assumed, and what could not be looked at. */
  readonly notes: readonly string[];
}

/** Checks this host: configuration, files, network, what is served; changes nothing. */
export async function checkHost(options: {
  readonly at: Instant;
  readonly clock: Clock;
  /** A client's URI, whose pkipath is looked at. */
  readonly uri?: string | undefined;
  readonly libvirt?: string | undefined;
  readonly qemu?: string | undefined;
}): Promise<HostReport> {
  const facts = await readHostFacts(options);
  const network = facts.mode === undefined ? undefined : await readNetwork(facts);
  const groups: FindingGroup[] = [{ title: 'Configuration', findings: facts.findings }];
  if (network !== undefined) {
    groups.push({ title: `Network of ${facts.daemon}`, findings: network.findings });
    groups.push({
      title: `Server files of ${facts.daemon}`,
      findings: await checkLibvirtFiles(facts, network),
    });
    groups.push(...(await checkQemuDirectories(facts)));
    groups.push({ title: 'Running VMs', findings: await checkServedByVms(options.clock) });
  }
  groups.push({ title: 'Client files of libvirt', findings: await checkClientFiles(facts, options.uri) });
  const told = groups.map((group) => ({
    ...group,
    findings: facts.isRoot ? group.findings : asUser(group.findings),
  }));
  const findings = told.flatMap((group) => group.findings);
  return {
    verdict: verdictOf(findings),
    findings,
    groups: told,
    notes: [...facts.notes, ...versionNotes(facts)],
  };
}

/** What a user may not read root may: no verdict follows from that, and one word of it is enough. */
function asUser(findings: readonly CheckFinding[]): CheckFinding[] {
  const closed = (finding: CheckFinding) =>
    finding.code === 'files.unreadable' && finding.text.includes('permission denied');
  const [first, ...more] = [...new Set(findings.filter(closed).map(({ file }) => file))];
  if (first === undefined) return [...findings];
  const note: CheckFinding = {
    severity: 'note',
    code: 'files.unreadable',
    file: first,
    text: `not judged, as this user may not read it${more.length === 0 ? '' : ` nor ${more.join(', ')}`}: permission denied`,
    remedy: 'run virt-trust check as root to have it judged',
  };
  return [...findings.filter((finding) => !closed(finding)), note];
}

function versionNotes(facts: HostFacts): string[] {
  return [facts.libvirt, facts.qemu].map((checker) => {
    const title = checker.program === 'libvirt' ? 'libvirt' : 'QEMU';
    const tried = isTriedVersion(checker) ? '' : '; they are from its source and were not tried';
    return `judged by the rules of ${title} ${checker.version}${tried}`;
  });
}
