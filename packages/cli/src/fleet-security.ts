import type { HostSummary } from '@virt-trust/contract/model/host.ts';
import type { UnmanagedHost } from '@virt-trust/contract/model/unmanaged-host.ts';
import { formatTime, writeLine } from './output.ts';

type Secured = Pick<HostSummary, 'name' | 'security'>;

/** As many hosts are named with one lack; more are counted. */
const MOST_NAMED = 8;

/** What a host can do in migrations, as one cell. */
export function securityCell({ security: { reported, modes } }: Secured): string {
  if (!reported) return 'not reported';
  return modes.length === 0 ? 'none' : modes.join(' ');
}

/** How many hosts of a fleet are secured; where not all, what the others lack and what mends it. */
export function fleetSecurityLines(
  hosts: readonly Secured[],
  unmanaged: readonly Pick<UnmanagedHost, 'name' | 'address'>[] = [],
): string[] {
  const total = hosts.length + unmanaged.length;
  if (total === 0) return [];
  const lacking: Lacking[] = [
    ...hosts.filter(({ security }) => security.missing.length > 0),
    ...unmanaged.map(withoutAgent),
  ];
  const secured = total - lacking.length;
  const summary = `${secured} of ${total} hosts secured${lacking.length === 0 ? '' : '; the others lack:'}`;
  const groups = new Map<string, { names: string[]; mends: string[] }>();
  for (const { name, security } of lacking)
    for (const what of security.missing) {
      const group = groups.get(what) ?? { names: [], mends: [] };
      group.names.push(name);
      // One command may mend several hosts; another is the same for all but the name.
      if (security.mend !== '' && !group.mends.includes(security.mend)) group.mends.push(security.mend);
      groups.set(what, group);
    }
  return [summary, ...[...groups].map(([what, group]) => lineOf(what, group))];
}

type Lacking = Pick<HostSummary, 'name'> & {
  readonly security: Pick<HostSummary['security'], 'missing' | 'mend'>;
};

/** What a host without an agent lacks. */
export function withoutAgent({ name, address }: Pick<UnmanagedHost, 'name' | 'address'>): Lacking {
  const mend = `virt-trust host remove ${name} && virt-trust host add ${name} --ssh root@${address}`;
  return { name, security: { missing: ['it has no agent'], mend } };
}

function lineOf(what: string, { names, mends }: { names: string[]; mends: string[] }): string {
  const more = names.length - MOST_NAMED;
  const named = names.slice(0, MOST_NAMED).join(', ') + (more > 0 ? ` and ${more} more` : '');
  const [mend] = mends;
  const others = mends.length > 1 ? ', and likewise for the others' : '';
  return `  ${named}: ${what}${mend === undefined ? '' : `; mend it with: ${mend}${others}`}`;
}

/** What one host can do in migrations, and what it lacks. */
export function writeHostSecurity({
  security,
  observed,
}: Pick<HostSummary, 'security'> & {
  readonly observed: { readonly capabilities?: { readonly at: number } | null } | null;
}): void {
  const { reported, modes, missing, mend, tls } = security;
  const since = observed?.capabilities?.at;
  const can = modes.length === 0 ? 'can migrate by no mode' : `can migrate by ${modes.join(', ')}`;
  writeLine(
    reported
      ? `  ${can}${since === undefined ? '' : `, as reported since ${formatTime(since)}`}`
      : '  has not reported what it can do: it counts as not secured',
  );
  if (tls.from !== 'default')
    writeLine(
      `  TLS is switched ${tls.enabled ? 'on' : 'off'} by kvm.libvirtd.tls.enabled, set for its ${tls.from === 'global' ? 'fleet' : tls.from}`,
    );
  for (const what of missing) writeLine(`  lacks: ${what}`);
  if (mend !== '') writeLine(`  mend it with: ${mend}`);
}
