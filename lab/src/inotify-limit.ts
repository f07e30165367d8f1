import { readFile, writeFile } from 'node:fs/promises';

const LIMIT = '/proc/sys/fs/inotify/max_user_instances';
const ENOUGH = 1024;

/**
 * Raises the kernel's limit of inotify instances, which all processes of root share, hosts and machine together: a
 * host takes about 16 of the usual 128, and hangs while it boots without them. It is never lowered again, because
 * nobody can tell who else counts on it by then.
 */
export async function raiseInotifyLimit(): Promise<void> {
  if (Number(await readFile(LIMIT, 'utf8')) >= ENOUGH) return;
  // Where the kernel's settings are read-only, a few hosts boot within the limit there is.
  await writeFile(LIMIT, `${ENOUGH}\n`).catch(() => {});
}
