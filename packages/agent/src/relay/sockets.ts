import { constants } from 'node:fs';
import { chmod, chown, lstat, mkdir, open, readdir, rmdir, stat, unlink } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { TrustError } from '@virt-trust/base/error.ts';

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
/** What one read of TLS brings at a time fits in several times, or reading would stop and go on for each. */
const HIGH_WATER_MARK = 256 * 1024;

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
  await removeClosing(directory);
  await mkdir(join(directory, '..'), { recursive: true, mode: 0o755 });
  // SECURITY: made anew and closed; one that somebody made meanwhile is an error.
  await mkdir(directory, { mode: 0o700 });
  if (owner === 'root') await chmod(directory, 0o711);
  else await chown(directory, owner.uid, owner.gid);
}

export async function removeSocketDirectory({ directory }: MigrationSockets): Promise<void> {
  await removeClosing(directory);
}

/** open(2): nothing of it is opened but its name; the same on all architectures that there are hosts of. */
const O_PATH = 0o10000000;

/**
 * A connection, which is being made, to a socket that QEMU made in its directory. SECURITY: to that one and to none that it only points to: whoever
 * broke out of a guest is QEMU's user, and what connects here is root, to whom libvirt's own socket is open.
 */
export async function connectToQemu(path: string): Promise<Socket> {
  const handle = await open(path, O_PATH | constants.O_NOFOLLOW);
  try {
    const [found, directory] = await Promise.all([handle.stat(), stat(dirname(path))]);
    if (!found.isSocket() || found.uid !== directory.uid)
      throw new TrustError(
        'relay.no_socket',
        'denied',
        `cannot pass a stream on to ${path}: it is no socket of QEMU's own`,
        { context: { path } },
      );
    const options = { allowHalfOpen: true, highWaterMark: HIGH_WATER_MARK };
    const socket = connect({ path: `/proc/self/fd/${handle.fd}`, ...options });
    const release = () => void handle.close().catch(() => {});
    socket.once('connect', release);
    socket.once('close', release);
    // Not awaited: QEMU may close it at once, and whoever carries it has to see that.
    return socket;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * Removes a directory that was another user's with all that is in it. SECURITY: each directory is taken from that user
 * before it is looked into, so that none can be exchanged for a link to somewhere else meanwhile.
 */
async function removeClosing(path: string): Promise<void> {
  const found = await lstat(path).catch(ignoreMissing);
  if (found === undefined) return;
  if (!found.isDirectory()) {
    await unlink(path).catch(ignoreMissing);
    return;
  }
  await chown(path, process.geteuid?.() ?? 0, process.getegid?.() ?? 0);
  await chmod(path, 0o700);
  for (const name of await readdir(path)) await removeClosing(join(path, name));
  await rmdir(path).catch(ignoreMissing);
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT') return undefined;
  throw error;
}
