import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type { HostPlan } from './host-plan.ts';
import { LAB_OWNER } from './orphans.ts';

// The disk is mounted in a mount namespace of the container's own, so that no mount outlives it. The container is
// started inside its network namespace because /sys/class/net shows the namespace of whoever mounted /sys. Until it is
// in its control groups it is found by its owner's mark.
const START = `
set -eu
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$UPPER,workdir=$WORK" "$MOUNT_POINT"
for directory in $CGROUPS; do echo $$ >"$directory/cgroup.procs"; done
unset ${LAB_OWNER}
exec nsenter --net="/run/netns/$NAMESPACE" systemd-nspawn "$@"
`;

/**
 * Starts a host's container: a booted Debian on an overlay of the shared root, in the network namespace and the
 * control groups that were made for it. It lives on when its starter ends; the console goes to a file.
 */
export function startMachine(plan: HostPlan, cgroups: readonly string[]): ChildProcess {
  const console = openSync(plan.console, 'w', 0o600);
  try {
    const machine = spawn(
      'unshare',
      ['--mount', '--propagation', 'private', 'sh', '-c', START, 'sh', ...nspawn(plan)],
      {
        detached: true,
        stdio: ['ignore', console, console],
        env: {
          PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
          LOWER: plan.lower,
          UPPER: plan.upper,
          WORK: plan.work,
          MOUNT_POINT: plan.mountPoint,
          NAMESPACE: plan.namespace,
          CGROUPS: cgroups.join(' '),
          [LAB_OWNER]: String(process.pid),
        },
      },
    );
    // A command that cannot start has no process identifier: the boot that waits for it sees that.
    machine.on('error', () => {});
    machine.unref();
    return machine;
  } finally {
    closeSync(console);
  }
}

function nspawn(plan: HostPlan): string[] {
  return [
    '--quiet',
    '--settings=no',
    `--directory=${plan.mountPoint}`,
    `--machine=${plan.machine}`,
    `--hostname=${plan.name}`,
    '--boot',
    // No systemd-machined or unit of the machine is needed: its first process may be something else.
    '--register=no',
    '--keep-unit',
    '--capability=all',
    `--network-namespace-path=/run/netns/${plan.namespace}`,
    '--resolv-conf=off',
    '--timezone=off',
    '--link-journal=no',
    '--console=read-only',
  ];
}
