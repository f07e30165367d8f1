import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import { tableLines } from './table.ts';

/** Control characters, and those that turn the direction of text, of what others chose must not steer the terminal. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is taken out
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, '�');
}

/** Writes an error as `error:` and `hint:` lines to standard error. */
export function writeError(error: unknown): void {
  writeErrorLine('error', isTrustError(error) ? error.message : describeError(error));
  if (isTrustError(error) && error.hint !== undefined) writeErrorLine('hint', error.hint);
}

/** One labelled message to standard error; further lines of it are indented, so that none passes for another label. */
export function writeErrorLine(label: 'error' | 'hint' | 'warning', message: string): void {
  writeNote(`${label}: ${message.trimEnd().replaceAll('\n', '\n  ')}`);
}

/** Words for the person at the terminal, on standard error: the answer on standard output stays clean. */
export function writeNote(text: string): void {
  process.stderr.write(`${printable(text)}\n`);
}

/** A line of the answer for people. */
export function writeLine(text = ''): void {
  process.stdout.write(`${printable(text)}\n`);
}

/** The answer for programs, escaped so that it does not steer a terminal either (RFC 8259 §7). */
export function writeJson(value: unknown): void {
  const text = JSON.stringify(value, null, 2).replace(
    /[\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  process.stdout.write(`${text}\n`);
}

/** The answer for people as a table, fitted into the terminal; elsewhere a row stays one line. */
export function writeTable(headings: readonly string[], rows: readonly (readonly string[])[]): void {
  const { isTTY, columns } = process.stdout;
  for (const line of tableLines(headings, rows, isTTY === true ? columns : undefined)) writeLine(line);
}

/** Date and minute in UTC; a dash where there is none. */
export function formatTime(milliseconds: number | null): string {
  return milliseconds === null
    ? '-'
    : `${new Date(milliseconds).toISOString().slice(0, 16).replace('T', ' ')}Z`;
}
