import { TrustError } from '@virt-trust/base/error.ts';
import {
  type ConfigurationValue,
  encodeConfigurationValue,
  type Scan,
  type Statement,
  scanConfiguration,
} from './configuration-syntax.ts';

export type { ConfigurationValue } from './configuration-syntax.ts';

const SIZE_LIMIT = 1024 * 1024;
const MARKER = '# Added by virt-trust';
const NAME = /^[A-Za-z][A-Za-z0-9_]*$/;

/**
 * Parses libvirtd.conf, virtproxyd.conf or qemu.conf, of at most 1 MiB. Give bytes where the text goes back to
 * disk, so that comments in any encoding survive. `file` is named in errors. Throws `configuration.malformed`.
 */
export function parseConfiguration(content: Uint8Array | string, file = 'configuration'): Configuration {
  const bytes = typeof content === 'string' ? Buffer.from(content, 'utf8') : Buffer.from(content);
  if (bytes.length > SIZE_LIMIT) {
    throw new TrustError(
      'configuration.malformed',
      'invalid',
      `cannot read ${file}: ${bytes.length} bytes are more than ${SIZE_LIMIT}`,
      { context: { file, length: bytes.length } },
    );
  }
  return new Configuration(bytes.toString('latin1'), file);
}

/** One entry of a configuration, with the line that it begins on. */
export interface ConfigurationEntry {
  readonly key: string;
  readonly value: ConfigurationValue;
  readonly line: number;
}

/** A libvirt configuration that can be edited; every byte that an edit does not name stays as it was. */
export class Configuration {
  readonly file: string;
  /** A byte string: one code unit for each byte of the file. */
  #text: string;
  #scan: Scan;

  /** Use `parseConfiguration`. */
  constructor(text: string, file: string) {
    this.file = file;
    this.#text = text;
    this.#scan = scanConfiguration(text, file);
  }

  /** The value that libvirt uses: the first one, where a key is set several times (virConfGetValue). */
  get(key: string): ConfigurationValue | undefined {
    return this.#find(key)?.value;
  }

  /** All entries in the file's order, those included that an earlier one of the same key hides. */
  entries(): readonly ConfigurationEntry[] {
    return this.#scan.statements.map(({ name, value, line }) => ({ key: name, value, line }));
  }

  /**
   * Sets a key: in place where it is set, else below its commented-out default, else at the end below one marker
   * comment. Setting the value that is there changes nothing.
   */
  set(key: string, value: ConfigurationValue): void {
    if (!NAME.test(key)) {
      throw new TrustError(
        'configuration.key_malformed',
        'invalid',
        `cannot set ${JSON.stringify(key.slice(0, 60))} in ${this.file}: not a name of letters, digits and _`,
      );
    }
    const encoded = encodeConfigurationValue(value);
    const present = this.#find(key);
    if (present !== undefined) {
      if (encodeConfigurationValue(present.value) === encoded) return;
      this.#splice(present.valueStart, present.valueEnd, encoded);
      return;
    }
    const eol = this.#eol();
    const place = this.#commentedDefault(key) ?? this.#endOfMarked();
    if (place !== undefined) {
      const before = place > 0 && !isEol(this.#text[place - 1]) ? eol : '';
      this.#splice(place, place, `${before}${key} = ${encoded}${eol}`);
      return;
    }
    const before = this.#text === '' || isEol(this.#text.at(-1)) ? '' : eol;
    this.#splice(this.#text.length, this.#text.length, `${before}${MARKER}${eol}${key} = ${encoded}${eol}`);
  }

  /** Comments out every entry of a key, so that libvirt's default holds. */
  unset(key: string): void {
    for (let entry = this.#find(key); entry !== undefined; entry = this.#find(key)) {
      const { start, valueEnd } = entry;
      this.#splice(start, this.#statementEnd(valueEnd), this.#commentedOut(start, valueEnd));
    }
  }

  /**
   * Gives a key back what it was in `original`: its very text where it was set, no entry where it was not. After
   * `set` and `unset` of some keys and `restore` of the same, the text is `original`'s byte for byte.
   */
  restore(key: string, original: Configuration): void {
    const before = original.#scan.statements.filter(({ name }) => name === key);
    const first = before[0];
    if (first === undefined) {
      this.#removeAll(key);
      this.#removeAddedComments(key, original);
      this.#removeIdleMarker(original);
      if (this.#text === original.#text + this.#eol()) this.#replace(original.#text);
      return;
    }
    if (this.#commentedOutIn(original, first) !== undefined) {
      this.#removeAll(key);
      for (const statement of before) this.#revive(original, statement);
    }
    const present = this.#find(key);
    if (present === undefined) this.set(key, first.value);
    else {
      const text = original.#text.slice(first.valueStart, first.valueEnd);
      this.#splice(present.valueStart, present.valueEnd, text);
    }
  }

  /** The bytes for the file. */
  toBytes(): Uint8Array {
    return Buffer.from(this.#text, 'latin1');
  }

  /** The text, read as UTF-8. */
  toString(): string {
    return Buffer.from(this.#text, 'latin1').toString('utf8');
  }

  #find(key: string): Statement | undefined {
    return this.#scan.statements.find(({ name }) => name === key);
  }

  #splice(start: number, end: number, replacement: string): void {
    this.#replace(this.#text.slice(0, start) + replacement + this.#text.slice(end));
  }

  #replace(text: string): void {
    this.#scan = scanConfiguration(text, this.file);
    this.#text = text;
  }

  /** Where a line that holds `offset` ends, its line ending included. */
  #lineEnd(offset: number): number {
    let end = offset;
    while (end < this.#text.length && !isEol(this.#text[end])) end++;
    if (this.#text.startsWith('\r\n', end)) return end + 2;
    return Math.min(end + 1, this.#text.length);
  }

  #eol(): string {
    return /\r\n|\n|\r/.exec(this.#text)?.[0] ?? '\n';
  }

  /** Where the line after the commented-out default of a key begins, such as `#tls_port = "16514"`. */
  #commentedDefault(key: string): number | undefined {
    const { comments } = this.#scan;
    const at = [new RegExp(`^#${key}[ \t]*=`), new RegExp(`^#[ \t]+${key}[ \t]*=`)]
      .map((form) => comments.findIndex(({ start, end }) => form.test(this.#text.slice(start, end))))
      .find((index) => index >= 0);
    if (at === undefined) return undefined;
    let last = comments[at];
    if (last === undefined) return undefined;
    // A commented-out list goes on to the comment that closes it.
    const first = this.#text.slice(last.start, last.end);
    if (/=[ \t]*\[[^\]]*$/.test(first)) {
      for (let next = at + 1; next < comments.length; next++) {
        const comment = comments[next];
        if (comment === undefined || comment.start !== this.#lineEnd(last.end)) break;
        last = comment;
        if (this.#text.slice(comment.start, comment.end).includes(']')) break;
      }
    }
    return this.#lineEnd(last.end);
  }

  /** Where the block of lines below our marker ends. */
  #endOfMarked(): number | undefined {
    const marker = this.#scan.comments.find(({ start, end }) => this.#text.slice(start, end) === MARKER);
    if (marker === undefined) return undefined;
    let end = this.#lineEnd(marker.end);
    for (const { start, valueEnd } of this.#scan.statements) if (start === end) end = this.#lineEnd(valueEnd);
    return end;
  }

  /** The end of a statement's text: a comment behind it included, and a `;` with what follows on its line left. */
  #statementEnd(valueEnd: number): number {
    const behind = /[ \t]*;/y;
    behind.lastIndex = valueEnd;
    const separator = behind.exec(this.#text);
    return separator === null ? valueEnd : valueEnd + separator[0].length;
  }

  #commentedOut(start: number, valueEnd: number): string {
    const eol = this.#eol();
    const body = this.#text.slice(start, valueEnd).replace(/(\r\n|\n|\r)/g, '$1#');
    // What follows a `;` on the same line must not become part of the comment.
    return `#${body}${this.#statementEnd(valueEnd) > valueEnd ? eol : ''}`;
  }

  /** What `unset` makes of a statement, with the rest of its line. */
  #commentedOutLine({ start, valueEnd }: Statement): string {
    const text = this.#commentedOut(start, valueEnd);
    return this.#statementEnd(valueEnd) > valueEnd ? text : text + this.#restOfLine(valueEnd);
  }

  /** Where a statement of `original` stands here as `unset` left it; a like comment of `original` is not it. */
  #commentedOutIn(original: Configuration, statement: Statement): number | undefined {
    const line = original.#commentedOutLine(statement);
    const earlier = original.#commentsReading(line).filter((start) => start < statement.start).length;
    return this.#commentsReading(line)[earlier];
  }

  #commentsReading(line: string): number[] {
    return this.#scan.comments
      .map(({ start }) => start)
      .filter((start) => {
        const end = start + line.length;
        const whole = isEol(line.at(-1)) || end === this.#text.length || isEol(this.#text[end]);
        return whole && this.#text.startsWith(line, start);
      });
  }

  #revive(original: Configuration, statement: Statement): void {
    const at = this.#commentedOutIn(original, statement);
    if (at === undefined) return;
    const { start, valueEnd } = statement;
    const length = original.#commentedOut(start, valueEnd).length;
    this.#splice(at, at + length, original.#text.slice(start, original.#statementEnd(valueEnd)));
  }

  #removeAll(key: string): void {
    for (let entry = this.#find(key); entry !== undefined; entry = this.#find(key)) this.#removeLines(entry);
  }

  /** Removes what `set` and then `unset` left of a key that `original` does not set. */
  #removeAddedComments(key: string, original: Configuration): void {
    const form = new RegExp(`^#${key} = `);
    const left = original.#scan.comments.map(({ start, end }) => original.#text.slice(start, end));
    for (const { start, end } of [...this.#scan.comments]) {
      const text = this.#text.slice(start, end);
      if (!form.test(text)) continue;
      const at = left.indexOf(text);
      if (at >= 0) left.splice(at, 1);
      else {
        this.#splice(start, this.#lineEnd(end), '');
        this.#removeAddedComments(key, original);
        return;
      }
    }
  }

  #restOfLine(offset: number): string {
    let end = offset;
    while (end < this.#text.length && !isEol(this.#text[end])) end++;
    return this.#text.slice(offset, end);
  }

  #removeLines({ start, valueEnd }: Statement): void {
    const lineStart = start === 0 || isEol(this.#text[start - 1]);
    const end = this.#lineEnd(valueEnd);
    const alone = lineStart && !this.#text.slice(valueEnd, end).includes(';');
    if (alone) this.#splice(start, end, '');
    else this.#splice(start, this.#statementEnd(valueEnd), '');
  }

  #removeIdleMarker(original: Configuration): void {
    const marker = this.#scan.comments.find(({ start, end }) => this.#text.slice(start, end) === MARKER);
    if (marker === undefined || original.#text.includes(MARKER)) return;
    const end = this.#lineEnd(marker.end);
    if (this.#scan.statements.some(({ start }) => start === end)) return;
    this.#splice(marker.start, end, '');
  }
}

function isEol(character: string | undefined): boolean {
  return character === '\n' || character === '\r';
}
