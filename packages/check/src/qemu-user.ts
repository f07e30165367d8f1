import { readFile } from 'node:fs/promises';
import type { ReadingUser } from './reader.ts';

/** The accounts that Debian's and Red Hat's packages make for QEMU. */
const ACCOUNTS = ['libvirt-qemu', 'qemu'];
/** Nobody in particular, where there is no such account: what all may read, QEMU may. */
const ANYBODY = 0xffff_fffe;

/**
 * The user that QEMU runs as on this machine, where root asks, who reads everything himself; undefined for whoever is
 * a plain user, who judges by what he reads. Without an account of QEMU's a key that root alone may read counts as
 * unreadable all the same.
 */
export async function readQemuUser(name?: string, group?: string): Promise<ReadingUser | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const [passwd, groups] = await Promise.all([database('/etc/passwd'), database('/etc/group')]);
  const account = (name === undefined ? ACCOUNTS : [name])
    .map((wanted) => passwd.find(([own]) => own === wanted))
    .find((entry) => entry !== undefined);
  if (account === undefined)
    return { name: 'a user other than root, as QEMU runs,', uid: ANYBODY, gids: [], groupsUnknown: true };
  const [own = '', , uid, gid] = account;
  const also = groups
    .filter(([each, , , members]) => each === group || members?.split(',').includes(own))
    .map(([, , number]) => Number(number));
  return { name: own, uid: Number(uid), gids: [Number(gid), ...also] };
}

async function database(path: string): Promise<string[][]> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return text
    .split('\n')
    .slice(0, 100_000)
    .map((line) => line.split(':'));
}
