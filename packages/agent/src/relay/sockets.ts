import { chmod, chown, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** Where QEMU's streams of one migration in mode `pinned` meet the agents; the same on both hosts. */
export interface MigrationSockets {
  readonly directory: string;
  readonly stream: string;
  readonly disks: string;
}

/** Unix sockets have no longer names (unix(7), `sun_path`). */
const PATH_LIMIT = 107;
/** libvirt's own directory for sockets of VMs: SELinux's policy lets QEMU make some there. */
const PARENT = '/run/libvirt/qemu';
const ID_DIGITS = 12;

/**
 * The sockets of a migration of that id and VM. Their names end as libvirt's own tunnels do, which AppArmor's profile of
 * each VM permits (virt-aa-helper.c), where the VM's name leaves room for it.
 */
export function migrationSockets(root: string, id: string, vm: string): MigrationSockets {
  const directory = join(root, PARENT, `virt-trust-${id.replaceAll('-', '').slice(0, ID_DIGITS)}`);
  const path = (name: string) => {
    const permitted = join(directory, `${name}.tunnelmigrate.dest.${vm}`);
    return Buffer.byteLength(permitted) <= PATH_LIMIT ? permitted : join(directory, name);
  };
  return { directory, stream: path('m'), disks: path('d') };
}

/** A path as `migrate_uri` and `disks_uri` have it: libvirt decodes what stands for itself in no URI (RFC 3986 §3.3). */
export function unixUri(path: string): string {
  return `unix://${path.split('/').map(encodeURIComponent).join('/')}`;
}

/**
 * Makes the directory anew, in which only its owner (and root) may do anything: on the destination QEMU's user, who
 * makes the sockets; on the source root, whose sockets QEMU may pass to.
 */
export async function makeSocketDirectory(
  { directory }: MigrationSockets,
  owner: { readonly uid: number; readonly gid: number } | 'root',
): Promise<void> {
  await rm(directory, { recursive: true, force: true });
  await mkdir(join(directory, '..'), { recursive: true, mode: 0o755 });
  // SECURITY: made anew and closed; one that somebody made meanwhile is an error.
  await mkdir(directory, { mode: 0o700 });
  if (owner === 'root') await chmod(directory, 0o711);
  else await chown(directory, owner.uid, owner.gid);
}

export async function removeSocketDirectory({ directory }: MigrationSockets): Promise<void> {
  await rm(directory, { recursive: true, force: true });
}
