/** One figure of a family, with its labels. */
export interface Sample {
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number;
}

interface Family {
  readonly type: 'counter' | 'gauge';
  readonly help: string;
  collect(): Promise<readonly Sample[]>;
}

/** A figure that only grows, for each set of labels. */
export interface Counter {
  add(labels?: Readonly<Record<string, string>>, amount?: number): void;
}

const NAME = /^[a-z][a-z0-9_]*$/;
const MOST_SERIES = 2000;

/** The figures of this process in the Prometheus text exposition format 0.0.4. */
export class Metrics {
  readonly #families = new Map<string, Family>();

  counter(name: string, help: string): Counter {
    const series = new Map<string, { labels: Readonly<Record<string, string>>; value: number }>();
    this.#add(name, { type: 'counter', help, collect: async () => [...series.values()] });
    // Callers on hot paths keep their labels, which then need no text.
    const known = new WeakMap<object, { value: number }>();
    return {
      add: (labels = {}, amount = 1) => {
        const seen = known.get(labels);
        if (seen !== undefined) {
          seen.value += amount;
          return;
        }
        const key = JSON.stringify(labels);
        const one = series.get(key) ?? { labels, value: 0 };
        one.value += amount;
        if (!series.has(key) && series.size >= MOST_SERIES) return;
        series.set(key, one);
        known.set(labels, one);
      },
    };
  }

  /** Figures that are looked up when somebody asks for them. */
  gauge(name: string, help: string, collect: () => Promise<readonly Sample[]>): void {
    this.#add(name, { type: 'gauge', help, collect });
  }

  async render(): Promise<string> {
    const parts: string[] = [];
    for (const [name, { type, help, collect }] of this.#families) {
      parts.push(`# HELP ${name} ${escaped(help)}`, `# TYPE ${name} ${type}`);
      for (const { labels = {}, value } of await collect())
        parts.push(`${name}${labelText(labels)} ${value}`);
    }
    return `${parts.join('\n')}\n`;
  }

  #add(name: string, family: Family): void {
    if (!NAME.test(name) || this.#families.has(name))
      throw new RangeError(`cannot add metric ${name}: bad or taken`);
    this.#families.set(name, family);
  }
}

function labelText(labels: Readonly<Record<string, string>>): string {
  const parts = Object.entries(labels).map(
    ([name, value]) => `${name}="${escaped(value).replaceAll('"', '\\"')}"`,
  );
  return parts.length === 0 ? '' : `{${parts.join(',')}}`;
}

function escaped(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}
