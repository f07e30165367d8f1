import type { MigrationPlan } from '@virt-trust/contract/model/migration-plan.ts';
import { writeFindings } from './finding-view.ts';
import { formatTime, writeLine, writeTable } from './output.ts';

/** Shows how a VM would migrate, why so, and what was found against it. */
export function writePlan(plan: MigrationPlan): void {
  const { vm, from, to, decision, addresses, options, findings, handshakes, ready } = plan;
  const against = findings.filter(({ severity }) => severity === 'error' || severity === 'unsafe').length;
  writeLine(
    ready
      ? `${vm} from ${from} to ${to}: ready`
      : `${vm} from ${from} to ${to}: not ready, ${against} ${against === 1 ? 'finding' : 'findings'} against it`,
  );
  writeLine();
  const facts: (readonly [string, string])[] = [
    ['mode', decision.mode === null ? 'none is feasible' : `${decision.mode}, ${decision.uri}`],
    ['order', `${decision.order.join(', ')} (${decision.orderFrom})`],
  ];
  if (decision.conductor !== null)
    facts.push(['conducted by', `the agent of ${decision.conductor === 'source' ? from : to}`]);
  if (addresses !== null) facts.push(['addresses', addressesOf(addresses)]);
  facts.push(['options', optionsOf(options)]);
  for (const { mode, feasible, reasons } of decision.verdicts)
    facts.push([`${mode}`, `${feasible ? 'feasible' : 'not feasible'}: ${reasons.join('; ')}`]);
  const width = Math.max(...facts.map(([name]) => name.length));
  for (const [name, value] of facts) writeLine(`  ${name.padEnd(width)}  ${value}`);
  if (handshakes.length > 0) {
    writeLine();
    writeTable(
      ['handshake', 'from', 'to', 'at', 'as', 'outcome', 'served until'],
      handshakes.map((one) => [
        one.service,
        one.from,
        one.to,
        one.target,
        one.verified,
        one.outcome,
        formatTime(one.notAfter),
      ]),
    );
  }
  writeLine();
  const all = [
    ...findings,
    ...decision.warnings
      .filter((what) => !findings.some((one) => one.what === what))
      .map((what) => ({ code: 'mode.plain', severity: 'warning' as const, host: null, what, fix: '' })),
  ];
  if (all.length === 0) writeLine('Nothing was found against it.');
  else writeFindings(all.map((finding) => ({ finding, where: '' })));
}

function addressesOf({
  libvirtAddress,
  migrationAddress,
  interface: name,
}: NonNullable<MigrationPlan['addresses']>) {
  const stream = `${migrationAddress}${name === null ? '' : ` on ${name}`}`;
  return libvirtAddress === migrationAddress ? stream : `${stream}, libvirt at ${libvirtAddress}`;
}

/** What differs from a plain live migration. */
function optionsOf(options: MigrationPlan['options']): string {
  const words = [
    options.offline ? 'offline' : options.live ? 'live' : 'paused meanwhile',
    options.persistent && 'persistent',
    options.undefineSource && 'undefine source',
    options.copyStorage !== 'none' &&
      `copy storage ${options.copyStorage}${options.copyDisks.length > 0 ? ` of ${options.copyDisks.join(', ')}` : ''}`,
    options.postCopy && 'post-copy',
    options.parallel > 0 && `${options.parallel} connections`,
    options.compression !== 'none' && `compressed with ${options.compression}`,
    options.autoConverge && 'auto-converge',
    options.bandwidthMiB > 0 && `at most ${options.bandwidthMiB} MiB/s`,
    options.downtimeMs > 0 && `at most ${options.downtimeMs} ms down`,
    options.timeoutSeconds > 0 && `${options.timeoutAction} after ${options.timeoutSeconds} s`,
    options.flags > 0 && `flags 0x${options.flags.toString(16)}`,
  ];
  return words.filter((word) => word !== false).join(', ');
}
