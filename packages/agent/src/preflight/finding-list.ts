import type { Finding } from '@virt-trust/contract/model/preflight.ts';

const TEXT_LIMIT = 8000;

/** What was found on one host, or between it and another; words of programs are taken in, bounded and harmless. */
export class FindingList {
  readonly #host: string;
  readonly all: Finding[] = [];

  constructor(host: string) {
    this.#host = host;
  }

  note(code: string, what: string, fix: string): void {
    this.add('note', code, what, fix);
  }

  warning(code: string, what: string, fix: string): void {
    this.add('warning', code, what, fix);
  }

  error(code: string, what: string, fix: string): void {
    this.add('error', code, what, fix);
  }

  unsafe(code: string, what: string, fix: string): void {
    this.add('unsafe', code, what, fix);
  }

  add(
    severity: Finding['severity'],
    code: string,
    what: string,
    fix: string,
    host: string | null = this.#host,
  ): void {
    this.all.push({ code, severity, host, what: clean(what), fix: clean(fix) });
  }
}

/** As contract/model/primitives.ts lets a Text be. */
export function clean(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out.
  return text.replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f]/g, ' ').slice(0, TEXT_LIMIT);
}
