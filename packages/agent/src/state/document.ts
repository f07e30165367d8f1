import { TrustError } from '@virt-trust/base/error.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import type { Static, TSchema } from 'typebox';
import { readFileIfPresent, removeFile, writeFileAtomic } from './atomic-file.ts';

/** A JSON file of the agent's state: written whole and durably, checked against its schema when read. */
export class Document<S extends TSchema> {
  readonly path: string;
  readonly #schema: S;
  readonly #wayOut: string;
  readonly #fromOlder: (value: unknown) => unknown;

  /**
   * `wayOut` says what to do when the file is damaged; `fromOlder` adds what the agent of a former version did not
   * write, and changes nothing else.
   */
  constructor(
    path: string,
    schema: S,
    wayOut: string,
    fromOlder: (value: unknown) => unknown = (value) => value,
  ) {
    this.path = path;
    this.#schema = schema;
    this.#wayOut = wayOut;
    this.#fromOlder = fromOlder;
  }

  /** What the file holds, undefined if there is none; throws `state.corrupt`. */
  async read(): Promise<Static<S> | undefined> {
    const bytes = await readFileIfPresent(this.path);
    if (bytes === undefined) return undefined;
    try {
      return validatorOf(this.#schema)(this.#fromOlder(JSON.parse(bytes.toString('utf8'))), this.path);
    } catch (cause) {
      throw new TrustError('state.corrupt', 'failed', `cannot read ${this.path}: it is damaged`, {
        context: { path: this.path },
        hint: this.#wayOut,
        cause,
      });
    }
  }

  /** Replaces the file; a value that does not fit the schema is refused before anything is written. */
  async write(value: Static<S>): Promise<void> {
    const checked = validatorOf(this.#schema)(value, this.path);
    await writeFileAtomic(this.path, `${JSON.stringify(checked, undefined, 2)}\n`, { mode: 0o600 });
  }

  async remove(): Promise<void> {
    await removeFile(this.path);
  }
}
