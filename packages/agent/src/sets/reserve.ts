import { rm, stat } from 'node:fs/promises';
import { writeFileAtomic } from '../state/atomic-file.ts';

/** More than journal, state and events of one way back take. */
const BYTES = 256 * 1024;

/** Space that is held while an application runs, so that the way back can be noted down on a disk that filled up. */
export class Reserve {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** Holds the space; throws what the system says where there is none. */
  async take(): Promise<void> {
    const held = await stat(this.#path).catch(() => undefined);
    if (held?.size === BYTES) return;
    await writeFileAtomic(this.#path, Buffer.alloc(BYTES), { mode: 0o600 });
  }

  async release(): Promise<void> {
    await rm(this.#path, { force: true });
  }
}
