import { TrustError } from '@virt-trust/base/error.ts';
import type { Configuration } from './configuration.ts';

/** Reads settings with the types that libvirt demands; throws `configuration.wrong_type`, as its daemon exits. */
export class ConfigurationReader {
  readonly #configuration: Configuration;

  constructor(configuration: Configuration) {
    this.#configuration = configuration;
  }

  string(key: string): string | undefined {
    const value = this.#configuration.get(key);
    if (value === undefined || typeof value === 'string') return value;
    return this.#fail(key, 'a string');
  }

  boolean(key: string): boolean | undefined {
    const value = this.#configuration.get(key);
    if (value === undefined) return undefined;
    if (value === 0 || value === 1) return value === 1;
    return this.#fail(key, '0 or 1');
  }

  integer(key: string): number | undefined {
    const value = this.#configuration.get(key);
    if (value === undefined || (typeof value === 'number' && value >= 0)) return value;
    return this.#fail(key, 'an unsigned integer');
  }

  /** A list of strings; with `orString` one string stands for a list of one. */
  strings(key: string, orString = false): readonly string[] | undefined {
    const value = this.#configuration.get(key);
    if (value === undefined) return undefined;
    if (typeof value === 'string' && orString) return [value];
    if (typeof value !== 'object') return this.#fail(key, 'a list of strings');
    return value.map((element) =>
      typeof element === 'string' ? element : this.#fail(key, 'a list of strings'),
    );
  }

  #fail(key: string, expected: string): never {
    const { file } = this.#configuration;
    const line = this.#configuration.entries().find((entry) => entry.key === key)?.line;
    throw new TrustError(
      'configuration.wrong_type',
      'invalid',
      `cannot use ${key} of ${file}: line ${line}: expecting ${expected}`,
      {
        context: { file, key, line },
        hint: `mend ${key} in ${file}; the libvirt daemon would not start with it`,
      },
    );
  }
}
