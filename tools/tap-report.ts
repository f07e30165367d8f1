/** What a run of Node's test runner came to. */
export interface TapReport {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** The tests that were left out, each with the reason that it gave. */
  readonly leftOut: readonly string[];
  /** The tests that failed by themselves, in their order, each with its place and how its error begins. */
  readonly failures: readonly string[];
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
    failures: failuresOf(text),
  };
}

const FAILED = /^( *)not ok \d+ - (.*)\n\1 {2}---\n((?:\1 {2}.*\n|\n)*?)\1 {2}\.\.\.$/gm;
const MOST_LINES = 12;
const MOST_CHARACTERS = 1000;

/** A suite fails with its tests, which say why. */
function failuresOf(text: string): string[] {
  return [...text.matchAll(FAILED)]
    .filter(
      ([, , title = '', diagnosis = '']) => !/ # TODO/.test(title) && !/'subtestsFailed'/.test(diagnosis),
    )
    .map(([, indent = '', title, diagnosis = '']) => {
      const place = /^ *location: '(.*)'$/m.exec(diagnosis)?.[1] ?? '';
      const error = errorOf(diagnosis, `${indent}  `)
        .split('\n')
        .filter((line) => line.trim() !== '')
        .slice(0, MOST_LINES)
        .map((line) => `    ${line}`)
        .join('\n')
        .slice(0, MOST_CHARACTERS);
      return `${unescaped(title)} (${place})\n${error}`;
    });
}

/** A YAML scalar, as the runner writes it: on its line, quoted or not, or as a block below. */
function errorOf(diagnosis: string, indent: string): string {
  const block = new RegExp(`^${indent}error: \\|-\\n((?:${indent}  .*\\n|\\s*\\n)*)`, 'm').exec(
    diagnosis,
  )?.[1];
  if (block !== undefined) return block.replaceAll(new RegExp(`^${indent}  `, 'gm'), '');
  return /^ *error: ["']?(.*?)["']?$/m.exec(diagnosis)?.[1] ?? '';
}

/** The runner escapes `#` and `\`. */
function unescaped(text = 'no reason is given'): string {
  return text.replace(/\\([#\\])/g, '$1');
}
