import { isTrustError } from '@virt-trust/base/error.ts';
import type { RunHostCommand } from './host-command.ts';

/** getent's exit code for a key that is not there. */
const NOT_FOUND = 2;

/** Names of the host's users and groups by number, asked once each. */
export class Accounts {
  readonly #run: RunHostCommand;
  readonly #known = new Map<string, Promise<string | undefined>>();

  constructor(run: RunHostCommand) {
    this.#run = run;
  }

  /** The name of a user or group by number or name, undefined if there is none. */
  name(database: 'passwd' | 'group', key: string | number): Promise<string | undefined> {
    const id = `${database} ${key}`;
    const known = this.#known.get(id) ?? this.#ask(database, String(key));
    this.#known.set(id, known);
    return known;
  }

  /** `user:group` of a file, by number where there is no name. */
  async owner(uid: number, gid: number): Promise<string> {
    const [user, group] = await Promise.all([this.name('passwd', uid), this.name('group', gid)]);
    return `${user ?? uid}:${group ?? gid}`;
  }

  async #ask(database: string, key: string): Promise<string | undefined> {
    try {
      const { stdout } = await this.#run('getent', [database, key], { acceptedCodes: [NOT_FOUND] });
      return /^([^:\n]{1,64}):/.exec(stdout)?.[1];
    } catch (error) {
      if (isTrustError(error)) return undefined;
      throw error;
    }
  }
}
