import { formatTime, writeTable } from '@virt-trust/cli/output.ts';
import type { HostDetail } from '@virt-trust/contract/model/host.ts';
import { SERVICES } from '@virt-trust/contract/model/service.ts';
import type { Steps } from './steps.ts';

/** What the end of the main job is told from. */
export interface Outcome {
  readonly lab: string;
  readonly hosts: readonly HostDetail[];
  readonly vm: string;
  /** The host that the VM runs on now, and the one that it came from. */
  readonly at: string;
  readonly from: string;
  /** The VM's display, and the file of the authority that its viewers trust. */
  readonly display: string;
  readonly consoleAuthority: string;
}

/** The table of what is true now. */
export function showState(outcome: Outcome, steps: Steps): void {
  steps.line();
  steps.line(`True now, after ${steps.taken} steps:`);
  writeTable(
    ['host', 'state', 'channel', ...SERVICES, 'valid until', 'vm'],
    outcome.hosts.map((host) => {
      const credentials = host.observed?.credentials ?? [];
      const phase = (service: string) =>
        credentials.find((one) => one.service === service)?.phase === 'settled' ? 'proven' : 'not proven';
      const expiries = credentials.flatMap((one) => (one.notAfter === null ? [] : [one.notAfter]));
      return [
        host.name,
        host.state,
        host.group ?? host.channel,
        ...SERVICES.map(phase),
        formatTime(expiries.length === 0 ? null : Math.min(...expiries)),
        host.name === outcome.at ? outcome.vm : '-',
      ];
    }),
  );
}

/** The commands that work now, by what they do. */
export function nextCommands(outcome: Outcome): [purpose: string, command: string][] {
  const { lab, vm, at, from, display, consoleAuthority } = outcome;
  return [
    ['all hosts', 'host list'],
    ['one with its proofs', `host show ${at}`],
    ['its networks', `interface list ${at}`],
    ['what was issued', 'certificate list'],
    ["reach the VM's console", `console ${vm}`],
    ["look at the VM's display", `probe ${display} --ca ${consoleAuthority}`],
    ['enter a host', `lab exec --name ${lab} ${at} virsh list`],
    ['migrate it back', `migrate ${vm} --from ${at} --to ${from}`],
    ['check the audit log', 'audit verify'],
    ['give a host back', `host remove ${from} --yes`],
  ];
}

/** Says what to try next, from another terminal; `preparation` is what a shell needs first. */
export function showNext(
  preparation: readonly string[],
  commands: readonly (readonly [purpose: string, command: string])[],
  steps: Steps,
): void {
  steps.line();
  steps.line('Try next, in another terminal:');
  for (const line of preparation) steps.line(`  ${line}`);
  const width = Math.max(...commands.map(([purpose]) => purpose.length));
  for (const [purpose, command] of commands)
    steps.line(`  ${purpose.padEnd(width)}  ./virt-trust ${command}`);
}
