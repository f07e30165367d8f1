import { TrustError } from '@virt-trust/base/error.ts';

/** A value of libvirt's configuration syntax; integers beyond 2^53 are bigint. */
export type ConfigurationValue = string | number | bigint | readonly ConfigurationValue[];

/** `name = value` with where it stands in the text: offsets of code units, `end` exclusive. */
export interface Statement {
  readonly name: string;
  readonly value: ConfigurationValue;
  readonly start: number;
  readonly valueStart: number;
  readonly valueEnd: number;
  readonly line: number;
}

/** A comment that is a statement of its own, from `#` to before the line's end. */
interface Comment {
  readonly start: number;
  readonly end: number;
}

/** What a text consists of, in its order. */
export interface Scan {
  readonly statements: readonly Statement[];
  readonly comments: readonly Comment[];
}

const DEPTH_LIMIT = 8;

/**
 * Scans text in the syntax of libvirtd.conf and qemu.conf by the rules of libvirt's own parser (virConfParse):
 * statements end with a line or `;`, strings know no escapes, lists hold no comments. `text` is a byte string
 * (one code unit a byte); throws `configuration.malformed` where libvirt would refuse the file.
 */
export function scanConfiguration(text: string, file: string): Scan {
  return new Scanner(text, file).scan();
}

class Scanner {
  readonly #text: string;
  readonly #file: string;
  #at = 0;

  constructor(text: string, file: string) {
    this.#text = text;
    this.#file = file;
  }

  scan(): Scan {
    const statements: Statement[] = [];
    const comments: Comment[] = [];
    this.#skip(' \t\r\n');
    while (this.#at < this.#text.length) {
      const start = this.#at;
      if (this.#here() === '#') {
        this.#skipLine();
        comments.push({ start, end: this.#at });
      } else {
        statements.push(this.#statement());
      }
      this.#separator();
    }
    return { statements, comments };
  }

  #statement(): Statement {
    const start = this.#at;
    const line = this.#line();
    const name = /[A-Za-z][A-Za-z0-9_]*/y;
    name.lastIndex = start;
    const matched = name.exec(this.#text)?.[0];
    if (matched === undefined) this.#fail('expecting a name');
    this.#at += matched.length;
    this.#skip(' \t');
    if (this.#here() !== '=') this.#fail('expecting an assignment');
    this.#at++;
    this.#skip(' \t');
    const valueStart = this.#at;
    const value = this.#value(0);
    const valueEnd = this.#at;
    this.#skip(' \t');
    if (this.#here() === '#') this.#skipLine();
    return { name: matched, value, start, valueStart, valueEnd, line };
  }

  #separator(): void {
    this.#skip(' \t');
    const here = this.#here();
    if (here === '') return;
    if (here === ';') this.#at++;
    else if (here !== '\n' && here !== '\r') this.#fail('expecting a separator');
    this.#skip(' \t\r\n');
  }

  #value(depth: number): ConfigurationValue {
    this.#skip(' \t');
    const here = this.#here();
    if (here === '"' || here === "'") return this.#string(here);
    if (here === '[') return this.#list(depth);
    if (here !== '' && '+-0123456789'.includes(here)) return this.#integer();
    return this.#fail('expecting a value');
  }

  #string(quote: string): string {
    const text = this.#text;
    // libvirt looks for triple quotes only where at least seven bytes are left.
    if (text.startsWith('"""', this.#at) && this.#at + 6 < text.length) {
      const close = text.indexOf('"""', this.#at + 3);
      if (close < 0) this.#fail('unterminated string');
      const content = text.slice(this.#at + 3, close);
      this.#at = close + 3;
      return decodeBytes(content);
    }
    let close = this.#at + 1;
    while (close < text.length && text[close] !== quote && text[close] !== '\n' && text[close] !== '\r')
      close++;
    if (text[close] !== quote) this.#fail('unterminated string');
    const content = text.slice(this.#at + 1, close);
    this.#at = close + 1;
    return decodeBytes(content);
  }

  #list(depth: number): ConfigurationValue[] {
    if (depth >= DEPTH_LIMIT) this.#fail(`lists nested deeper than ${DEPTH_LIMIT}`);
    const values: ConfigurationValue[] = [];
    this.#at++;
    this.#skip(' \t\r\n');
    while (this.#here() !== ']') {
      if (this.#here() === '') this.#fail('list is not closed with ]');
      if (values.length > 0) {
        if (this.#here() !== ',') this.#fail('expecting a separator in list');
        this.#at++;
        this.#skip(' \t\r\n');
        if (this.#here() === ']') break;
      }
      values.push(this.#value(depth + 1));
      this.#skip(' \t\r\n');
    }
    this.#at++;
    return values;
  }

  #integer(): number | bigint {
    const form = /([+-]?)([0-9]+)/y;
    form.lastIndex = this.#at;
    const matched = form.exec(this.#text);
    const digits = matched?.[2];
    if (matched === null || digits === undefined) return this.#fail('unterminated number');
    // A 64-bit integer has at most 20 digits; libvirt would let more run over.
    if (digits.replace(/^0+/, '').length > 20) this.#fail('number out of range');
    this.#at += matched[0].length;
    const magnitude = BigInt(digits);
    const value = matched[1] === '-' ? -magnitude : magnitude;
    const small = Number(value);
    return Number.isSafeInteger(small) ? small + 0 : value;
  }

  #here(): string {
    return this.#text[this.#at] ?? '';
  }

  #skip(characters: string): void {
    while (this.#at < this.#text.length && characters.includes(this.#here())) this.#at++;
  }

  #skipLine(): void {
    while (this.#at < this.#text.length && this.#here() !== '\n' && this.#here() !== '\r') this.#at++;
  }

  #line(): number {
    let line = 1;
    for (let index = this.#text.indexOf('\n'); index >= 0 && index < this.#at; ) {
      line++;
      index = this.#text.indexOf('\n', index + 1);
    }
    return line;
  }

  #fail(reason: string): never {
    const line = this.#line();
    throw new TrustError(
      'configuration.malformed',
      'invalid',
      `cannot read ${this.#file}: line ${line}: ${reason}`,
      {
        context: { file: this.#file, line, reason },
        hint: `mend line ${line} of ${this.#file}; the libvirt daemon would refuse the file as it is`,
      },
    );
  }
}

function decodeBytes(content: string): string {
  return Buffer.from(content, 'latin1').toString('utf8');
}

/**
 * A value as libvirt's parser reads it back, as a byte string; throws `configuration.unrepresentable` for what
 * the syntax cannot hold (NUL, or a string with both kinds of quotes that ends in a double one).
 */
export function encodeConfigurationValue(value: ConfigurationValue, depth = 0): string {
  if (typeof value === 'string') return encodeString(value);
  if (typeof value !== 'object') {
    if (typeof value === 'number' && !Number.isSafeInteger(value)) throw unrepresentable(`${value}`);
    return String(value);
  }
  if (depth >= DEPTH_LIMIT) throw unrepresentable('a list nested too deeply');
  if (value.length === 0) return '[]';
  return `[ ${value.map((element) => encodeConfigurationValue(element, depth + 1)).join(', ')} ]`;
}

function encodeString(value: string): string {
  const bytes = Buffer.from(value, 'utf8').toString('latin1');
  if (value.includes('\0') || !value.isWellFormed())
    throw unrepresentable(JSON.stringify(value.slice(0, 60)));
  if (!/[\n\r]/.test(bytes)) {
    if (!bytes.includes('"')) return `"${bytes}"`;
    if (!bytes.includes("'")) return `'${bytes}'`;
  }
  if (bytes.includes('"""') || bytes.endsWith('"')) throw unrepresentable(JSON.stringify(value.slice(0, 60)));
  return `"""${bytes}"""`;
}

function unrepresentable(what: string): TrustError {
  return new TrustError(
    'configuration.unrepresentable',
    'invalid',
    `cannot write ${what} to a libvirt configuration: its syntax has no form for it`,
  );
}
