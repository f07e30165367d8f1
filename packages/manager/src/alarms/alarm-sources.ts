import type { AlarmSource } from './condition.ts';

/** Who knows of things that are wrong; asked each minute, and soon after they say that something changed. */
export class AlarmSources {
  readonly #sources = new Map<string, AlarmSource>();
  readonly #changed = new Set<string>();
  #onChange: () => void = () => {};

  /** Makes a source known; while domains are composed. */
  register(source: AlarmSource): void {
    if (this.#sources.has(source.name))
      throw new RangeError(`cannot add alarm source ${source.name}: it is there already`);
    this.#sources.set(source.name, source);
  }

  /** To be called when a source would answer otherwise than before. */
  changed(name: string): void {
    this.#changed.add(name);
    this.#onChange();
  }

  has(name: string): boolean {
    return this.#sources.has(name);
  }

  /** All sources, or those that changed since they were last taken. */
  take(which: 'all' | 'changed'): AlarmSource[] {
    const taken = [...this.#sources.values()].filter(
      (source) => which === 'all' || this.#changed.has(source.name),
    );
    this.#changed.clear();
    return taken;
  }

  /** Who is told that there is something to take. */
  onChange(listener: () => void): void {
    this.#onChange = listener;
  }
}
