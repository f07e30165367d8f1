import type { HostSummary } from '@virt-trust/contract/model/host.ts';
import type { UnmanagedHost } from '@virt-trust/contract/model/unmanaged-host.ts';
import { formatTime, writeLine } from './output.ts';

type Secured = Pick<HostSummary, 'name' | 'security'>;
type Member = Secured & Pick<HostSummary, 'state' | 'channel'>;

/** As many hosts are named with one lack; more are counted. */
const MOST_NAMED = 8;

/** What a host can do in migrations, as one cell. */
export function securityCell({ security: { reported, modes } }: Secured): string {
  if (!reported) return 'not reported';
  return modes.length === 0 ? 'none' : modes.join(' ');
}

/** How many hosts of a fleet are secured; where not all, what the others lack and what mends it. */
export function fleetSecurityLines(
  hosts: readonly Member[],
  unmanaged: readonly Pick<UnmanagedHost, 'name' | 'address'>[] = [],
): string[] {
  const total = hosts.length + unmanaged.length;
  if (total === 0) return [];
  const lacking: Lacking[] = [
    ...hosts.filter(({ security }) => security.missing.length > 0),
    ...hosts.filter(({ state, security }) => state === 'failed' && security.missing.length === 0).map(failed),
    ...unmanaged.map(withoutAgent),
  ];
  const lacks = new Set(lacking.map(({ name }) => name));
  const away = hosts.filter(({ name, channel }) => channel !== 'up' && !lacks.has(name));
  const secured = total - lacking.length;
  const told = away.length === 0 ? '' : ` (by its last report: ${namesOf(away)}, now away)`;
  const summary = `${secured} of ${total} hosts secured${told}${lacking.length === 0 ? '' : '; the others lack:'}`;
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

/** What it has, it has in spite of a provisioning that failed. */
function failed({ name }: Member): Lacking {
  const mend = `virt-trust host provision ${name}`;
  return { name, security: { missing: ['its last provisioning failed'], mend } };
}

function namesOf(hosts: readonly { readonly name: string }[]): string {
  const more = hosts.length - MOST_NAMED;
  const named = hosts.slice(0, MOST_NAMED).map(({ name }) => name);
  return named.join(', ') + (more > 0 ? ` and ${more} more` : '');
}

function lineOf(what: string, { names, mends }: { names: string[]; mends: string[] }): string {
  const named = namesOf(names.map((name) => ({ name })));
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
