/** What a run of Node's test runner came to. */
export interface TapReport {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** The tests that were left out, each with the reason that it gave. */
  readonly leftOut: readonly string[];
}

/** Reads the runner's TAP report: its own figures at the end, and the SKIP and TODO directives (TAP 13). */
export function parseTapReport(text: string): TapReport {
  const figure = (name: string) => Number(new RegExp(`^# ${name} (\\d+)$`, 'm').exec(text)?.[1] ?? 0);
  const directives = text.matchAll(/^ *ok \d+ - (.*?) # (?:SKIP|TODO)(?: (.*))?$/gm);
  return {
    passed: figure('pass'),
    failed: figure('fail') + figure('cancelled'),
    skipped: figure('skipped') + figure('todo'),
    leftOut: [...directives].map(([, title, reason]) => `${unescaped(title)} (${unescaped(reason)})`),
  };
}

/** The runner escapes `#` and `\`. */
function unescaped(text = 'no reason is given'): string {
  return text.replace(/\\([#\\])/g, '$1');
}
