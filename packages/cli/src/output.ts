import { describeError, isTrustError } from '@virt-trust/base/error.ts';

/** How a command answers: a table for people, JSON for programs. */
export interface OutputOptions {
  readonly json?: boolean;
}

/** Control characters of names and messages that others chose must not steer the terminal. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is taken out
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '�');
}

/** Writes an error as `error:` and `hint:` lines to standard error. */
export function writeError(error: unknown): void {
  process.stderr.write(`error: ${printable(isTrustError(error) ? error.message : describeError(error))}\n`);
  if (!isTrustError(error)) return;
  if (error.hint !== undefined) process.stderr.write(`hint: ${printable(error.hint)}\n`);
}

export function writeLine(text = ''): void {
  process.stdout.write(`${printable(text)}\n`);
}

export function writeJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

/** Columns as wide as their widest cell; the last is not padded. */
export function writeTable(headings: readonly string[], rows: readonly (readonly string[])[]): void {
  const all = [headings.map((heading) => heading.toUpperCase()), ...rows];
  const widths = headings.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)));
  for (const row of all) {
    writeLine(
      row
        .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
        .join('  ')
        .trimEnd(),
    );
  }
}

/** Date and minute in UTC; a dash where there is none. */
export function formatTime(milliseconds: number | null): string {
  return milliseconds === null
    ? '-'
    : `${new Date(milliseconds).toISOString().slice(0, 16).replace('T', ' ')}Z`;
}
