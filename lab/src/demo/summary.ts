import { formatTime, writeTable } from '@virt-trust/cli/output.ts';
import type { HostDetail } from '@virt-trust/contract/model/manager.ts';
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
    ['host', 'state', 'channel', 'libvirt', 'migration', 'vnc', 'valid until', 'vm'],
    outcome.hosts.map((host) => {
      const credentials = host.observed?.credentials ?? [];
      const phase = (service: string) =>
        credentials.find((one) => one.service === service)?.phase === 'settled' ? 'proven' : 'not proven';
      const expiries = credentials.flatMap((one) => (one.notAfter === null ? [] : [one.notAfter]));
      return [
        host.name,
        host.state,
        host.group ?? host.channel,
        ...['libvirt', 'migration', 'vnc'].map(phase),
        formatTime(expiries.length === 0 ? null : Math.min(...expiries)),
        host.name === outcome.at ? outcome.vm : '-',
      ];
    }),
  );
}

/** The commands that work now, with what they are for. */
export function nextCommands(outcome: Outcome): [command: string, purpose: string][] {
  const { lab, vm, at, from, display, consoleAuthority } = outcome;
  return [
    ['host list', 'the hosts'],
    [`host show ${at}`, 'one of them, with its proofs'],
    ['certificate list', 'what was issued'],
    [`migrate ${vm} --from ${at} --to ${from}`, 'back again'],
    [`probe ${display} --ca ${consoleAuthority}`, "the VM's display"],
    [`lab exec --name ${lab} ${at} virsh list`, 'a command on a host'],
    ['audit verify', 'the log of all of this'],
    [`host remove ${from} --yes`, 'give it back as it was'],
  ];
}

/** Says what to try next, from another terminal; `preparation` is what a shell needs first. */
export function showNext(
  preparation: readonly string[],
  commands: readonly (readonly [string, string])[],
  steps: Steps,
): void {
  steps.line();
  steps.line('Try next, in another terminal:');
  for (const line of preparation) steps.line(`  ${line}`);
  const width = Math.max(...commands.map(([command]) => command.length));
  for (const [command, purpose] of commands)
    steps.line(`  ./virt-trust ${command.padEnd(width)}  # ${purpose}`);
}
