import { createHash } from 'node:crypto';

/** A file or symbolic link that the recipe adds to the root. */
type RecipeFile =
  | { readonly kind: 'file'; readonly path: string; readonly mode: number; readonly text: string }
  | { readonly kind: 'append'; readonly path: string; readonly text: string }
  | { readonly kind: 'link'; readonly path: string; readonly target: string };

/** Everything that decides what the root of a lab's hosts holds. */
export interface RootRecipe {
  readonly packages: readonly string[];
  readonly excludedPaths: readonly string[];
  readonly files: readonly RecipeFile[];
  /** What the build leaves behind that a host must not have: the machine's own names, caches, shared keys. */
  readonly removed: readonly string[];
}

// What a container cannot do or a host of the lab does not need; all else runs as on any Debian host.
const MASKED = [
  // Waits up to five minutes for guests without an operating system to shut down.
  'libvirt-guests.service',
  'console-getty.service',
  'getty@tty1.service',
  'getty-static.service',
  'dpkg-db-backup.timer',
  'fstrim.timer',
  'logrotate.timer',
  'systemd-pstore.service',
  // They would show and change the kernel of the machine.
  'sys-kernel-debug.mount',
  'sys-kernel-tracing.mount',
];

/** The root that the lab's hosts share as the lower layer of their disks. */
export const ROOT_RECIPE: RootRecipe = {
  packages: [
    'dbus',
    'gnutls-bin',
    'iproute2',
    'libvirt-clients',
    'libvirt-daemon-driver-qemu',
    'libvirt-daemon-system',
    'nftables',
    'openssh-server',
    'procps',
    'qemu-system-x86',
    'qemu-utils',
    'systemd',
    'systemd-sysv',
    'udev',
    // As a Debian installation has it; the program is copied packed where it is there.
    'zstd',
  ],
  excludedPaths: ['/usr/share/man/*', '/usr/share/doc/*', '/usr/share/locale/*', '/usr/share/info/*'],
  files: [
    ...MASKED.map((unit) => ({
      kind: 'link' as const,
      path: `etc/systemd/system/${unit}`,
      target: '/dev/null',
    })),
    {
      kind: 'append',
      path: 'etc/libvirt/qemu.conf',
      text: '\n# This host is a container, which cannot make cgroups, namespaces or profiles for its guests.\ncgroup_controllers = []\nnamespaces = []\nsecurity_driver = "none"\n',
    },
    {
      kind: 'file',
      path: 'etc/ssh/sshd_config.d/lab.conf',
      mode: 0o644,
      text: 'HostKey /etc/ssh/ssh_host_ed25519_key\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n',
    },
    { kind: 'file', path: 'etc/resolv.conf', mode: 0o644, text: '' },
    { kind: 'file', path: 'etc/apt/sources.list', mode: 0o644, text: '' },
    { kind: 'file', path: 'etc/machine-id', mode: 0o444, text: '' },
  ],
  removed: [
    'etc/apt/apt.conf.d/99mmdebstrap',
    'etc/hostname',
    'etc/ssh/ssh_host_ecdsa_key',
    'etc/ssh/ssh_host_ecdsa_key.pub',
    'etc/ssh/ssh_host_ed25519_key',
    'etc/ssh/ssh_host_ed25519_key.pub',
    'etc/ssh/ssh_host_rsa_key',
    'etc/ssh/ssh_host_rsa_key.pub',
    'var/cache/apt/archives',
    'var/cache/ldconfig/aux-cache',
    'var/lib/dbus/machine-id',
    'var/log/apt',
    'var/log/alternatives.log',
    'var/log/dpkg.log',
  ],
};

/** The name of a root in the cache: changes with the recipe, the release of Debian and the architecture. */
export function recipeDigest(recipe: RootRecipe, release: string, architecture: string): string {
  const text = JSON.stringify([recipe, release, architecture]);
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
