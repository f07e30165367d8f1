import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';

/**
 * Takes a mount away, as the start of a shell command: whoever has a file of it open for a moment, as an agent that reads
 * what was put there, would have `umount` alone fail with "target is busy".
 */
export const UNMOUNT = 'umount --lazy';

/** Makes a file system of a host read-only, which the kernel refuses while anyone has a file open to write. */
export async function makeReadOnly(host: Host, place: string): Promise<void> {
  await until(`make ${place} read-only on ${host.name}`, 60_000, async () => {
    const { code } = await host.exec(['mount', '-o', 'remount,ro', place]);
    return code === 0 ? true : undefined;
  });
}

/** Files of hosts that have others mounted over them, so that nobody can rename anything into their place. */
export class MountedFiles {
  readonly #places = new Map<Host, Set<string>>();

  /** Puts one in the place of `path`, which may be a link to it; a file that is there already goes. */
  async put(host: Host, path: string, text: string, mode: number): Promise<void> {
    const place = (await host.run(['readlink', '-f', path])).trim();
    const own = `/root/mounted${place.replaceAll('/', '-')}`;
    await this.#takeAway(host, place);
    // A new inode each time: what was lazily taken away may be open yet.
    await host.run(['rm', '-f', own]);
    await host.writeFile(own, text, mode);
    await host.run(['mount', '--bind', own, place]);
    const places = this.#places.get(host) ?? new Set();
    this.#places.set(host, places.add(place));
  }

  /** Gives back what is there without them: of one host, or of all. */
  async giveBack(only?: Host): Promise<void> {
    for (const [host, places] of this.#places) {
      if (only !== undefined && host !== only) continue;
      for (const place of [...places]) await this.#takeAway(host, place);
    }
  }

  async #takeAway(host: Host, place: string): Promise<void> {
    if (this.#places.get(host)?.has(place) !== true) return;
    // What went with a boot of the host is gone already.
    await host.run(['sh', '-c', `! mountpoint -q '${place}' || ${UNMOUNT} '${place}'`]);
    this.#places.get(host)?.delete(place);
  }
}
