/** One thing that was measured; `ratio` against what the row names, where it is one. */
export interface Measurement {
  readonly what: string;
  readonly value: string;
  readonly ratio?: string;
}

/** What a suite found: rows, and what has to be known to read them. */
export interface SuiteResult {
  readonly rows: readonly Measurement[];
  readonly notes: readonly string[];
}

/** A set of benchmarks that is run and written down together. */
export interface Suite {
  readonly name: string;
  readonly title: string;
  /** Long ones hand each part of their result to `keep`, so that being stopped loses nothing. */
  run(say: (line: string) => void, keep: (soFar: SuiteResult) => void): Promise<SuiteResult>;
}
